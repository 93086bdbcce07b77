// Theme, the table of classes, and the start of everything.

function startTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const say = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.setAttribute("aria-label", "Switch between light and dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    say();
  });
  system.addEventListener("change", say);
  say();
}

function startClasses() {
  const table = byId("classes-table");
  if (!table) return;
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (line, column) => {
    const text = line.cells[column].textContent;
    return column ? (text === "" ? -1 : Number(text)) : text;
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      // The first click shows where it is worst: the smallest numbers.
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const lines = [...body.rows].map((line) => [value(line, column), line]);
      lines.sort(([a], [b]) => sign * (column ? a - b : a.localeCompare(b, undefined, { numeric: true })));
      body.append(...lines.map(([, line]) => line));
    });
  });
  const find = byId("find-class");
  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    let left = 0;
    for (const line of body.rows) {
      line.hidden = !line.cells[0].textContent.toLowerCase().includes(wanted);
      left += line.hidden ? 0 : 1;
    }
    byId("class-count").textContent = `${left} of ${body.rows.length} classes`;
  };
  find.addEventListener("input", filter);
  filter();
  table.addEventListener("click", (event) => {
    const label = event.target.dataset.label;
    if (label === undefined) return;
    const select = byId("class");
    if (![...select.options].some((choice) => choice.value === label)) return;
    select.value = state.label = label;
    Object.assign(state, { kind: "", find: "" });
    byId("find").value = "";
    update();
  });
}

startTheme();
startGallery();
startView();
startParts();
startClasses();
document.documentElement.dataset.ready = "yes";
