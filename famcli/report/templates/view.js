// One image, large, with all that is known about it; and the parts of some images.

let viewed = 0; // place in state.chosen

function openView(place) {
  viewed = place;
  byId("view-row").value = String(state.row);
  fillView();
  byId("view").showModal();
}

function facts(titles, rows) {
  const box = make("div", "wide");
  box.tabIndex = 0; // it scrolls
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", titles[0]);
  const table = make("table");
  const head = make("tr");
  titles.forEach((title, i) => head.append(Object.assign(make("th", i ? "number" : "", title), { scope: "col" })));
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  for (const [first, ...rest] of rows) {
    const line = make("tr");
    line.append(Object.assign(make("th", "", first), { scope: "row" }));
    for (const cell of rest) line.append(make("td", "number", cell));
    body.append(line);
  }
  table.append(top, body);
  box.append(table);
  return box;
}

function fillView() {
  const image = state.chosen[viewed];
  byId("view-title").textContent = image.name;
  byId("view-picture").replaceChildren(photoOf(image, { large: true, row: Number(byId("view-row").value) }));
  const parts = [];
  const box = (result) => (result.box ? result.box.map((value) => Math.round(value)).join(" ") : "");
  const rows = data.rows
    .map((row, i) => [row.title, outcome(image, i)])
    .filter(([, result]) => result)
    .map(([title, result]) => [title, result.iou < 0 ? "" : result.iou.toFixed(3), result.kind, box(result)]);
  parts.push(make("p", "", `Class: ${nameOf(image.label)}. ${image.width} × ${image.height} pixels.`));
  parts.push(facts(["boxes of", "IoU", "kind", "x0 y0 x1 y1"], rows));
  if (image.classes.length) {
    parts.push(facts(
      [`class predicted by ${data.rows[0].title}`, "%"],
      image.classes.map(([label, share], place) => [`${place === image.rank ? "✓ " : ""}${predictedOf(label)}`, (100 * share).toFixed(1)]),
    ));
  }
  const found = data.parts[image.index];
  if (found) parts.push(make("h3", "", "Parts"), partsOf(image, found));
  byId("view-facts").replaceChildren(...parts);
  byId("view-place").textContent = `${viewed + 1} of ${state.chosen.length}`;
  // Not "disabled", which would lose the focus of who presses it to the end.
  byId("previous").setAttribute("aria-disabled", String(viewed === 0));
  byId("next").setAttribute("aria-disabled", String(viewed === state.chosen.length - 1));
  byId("view").scrollTop = 0;
}

function moveView(by) {
  const to = viewed + by;
  if (to < 0 || to >= state.chosen.length) return;
  viewed = to;
  fillView();
}

function partsOf(image, found) {
  const row = make("div", "part-row");
  found.maps.forEach((base64, k) => {
    const layer = drawMap(found.size, bytesOf(base64), (value) => HEAT * (55 + (value * 200) / 255));
    const cell = make("span");
    const bar = make("span", "weight");
    bar.append(make("span"));
    bar.firstChild.style.width = `${100 * found.weights[k]}%`;
    cell.append(photoOf(image, { layer }), make("span", "", `A${k + 1}, t = ${found.weights[k].toFixed(2)}`), bar);
    row.append(cell);
  });
  return row;
}

function startView() {
  byId("close").addEventListener("click", () => byId("view").close());
  byId("previous").addEventListener("click", () => moveView(-1));
  byId("next").addEventListener("click", () => moveView(1));
  byId("view-row").addEventListener("input", fillView);
  byId("view").addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT") return; // arrows choose there
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      moveView(event.key === "ArrowLeft" ? -1 : 1);
    }
  });
  byId("view").addEventListener("click", (event) => {
    if (event.target === byId("view")) byId("view").close(); // beside the dialog
  });
  byId("view").addEventListener("close", () => {
    if (viewed < state.page * PAGE || viewed >= (state.page + 1) * PAGE) showPage(Math.floor(viewed / PAGE));
    const index = state.chosen[viewed].index;
    const card = byId("cards").querySelector(`[data-index="${index}"]`);
    if (card) focusCard(card);
  });
}

function startParts() {
  for (const index of data.partRows) {
    const image = images[index];
    byId("part-rows").append(make("h3", "", `${nameOf(image.label)} (${image.name})`), partsOf(image, data.parts[index]));
  }
}
