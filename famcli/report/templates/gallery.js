// Which images are on the page: filters, order, pages, keys.

const PAGE = 48;
const state = { order: "best", row: 0, label: "", find: "", kind: "", page: 0, chosen: [] };
const randomPlace = new Map(data.random.map((index, place) => [index, place]));
const searchable = images.map((image) => {
  const best = image.classes.length ? predictedOf(image.classes[0][0]) : "";
  return `${image.name}\n${nameOf(image.label)}\n${best}`.toLowerCase();
});

const orders = {
  best: (a, b) => iouOf(b) - iouOf(a) || a.index - b.index,
  worst: (a, b) => iouOf(a) - iouOf(b) || a.index - b.index,
  random: (a, b) => randomPlace.get(a.index) - randomPlace.get(b.index),
  split: (a, b) => a.index - b.index,
  name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
};

function iouOf(image) {
  const result = outcome(image, state.row);
  return result ? result.iou : -2;
}

function passes(image) {
  return (
    (state.label === "" || image.label === Number(state.label)) &&
    (state.find === "" || searchable[image.index].includes(state.find)) &&
    (state.order !== "random" || randomPlace.has(image.index))
  );
}

// Choose and show; `page` 0 after any change of a filter.
function update(page = 0) {
  const others = images.filter(passes);
  const counts = new Map(data.kinds.map((kind) => [kind, 0]));
  for (const image of others) {
    const result = outcome(image, state.row);
    if (result) counts.set(result.kind, counts.get(result.kind) + 1);
  }
  for (const button of byId("kinds").children) {
    const kind = button.dataset.kind;
    button.setAttribute("aria-pressed", String(kind === state.kind));
    button.textContent = `${kind || "all"} ${kind ? counts.get(kind) : others.length}`;
  }
  state.chosen = others.filter((image) => {
    const result = outcome(image, state.row);
    return state.kind === "" || (result && result.kind === state.kind);
  });
  state.chosen.sort(orders[state.order]);
  showPage(page);
}

function showPage(page) {
  const pages = Math.max(1, Math.ceil(state.chosen.length / PAGE));
  state.page = Math.min(Math.max(0, page), pages - 1);
  const start = state.page * PAGE;
  const shown = state.chosen.slice(start, start + PAGE);
  byId("cards").replaceChildren(...shown.map((image, i) => cardOf(image, i === 0)));
  const end = start + shown.length;
  byId("count").textContent = shown.length
    ? `${start + 1} to ${end} of ${state.chosen.length} images`
    : "No image passes these filters.";
  byId("pager").hidden = pages === 1;
  byId("page").textContent = `Page ${state.page + 1} of ${pages}`;
  byId("previous-page").disabled = state.page === 0;
  byId("next-page").disabled = state.page === pages - 1;
}

function captionOf(image, row) {
  const result = outcome(image, row);
  const caption = make("span", "caption");
  caption.append(make("span", "name", nameOf(image.label)));
  if (image.classes.length && predicts(row)) caption.append(make("span", "", `predicted: ${predictedOf(image.classes[0][0])}`));
  caption.append(make("span", "iou", iouText(result)));
  caption.append(make("span", "", result ? `${result.kind === "right" ? "✓" : "✗"} ${result.kind}` : "not scored"));
  return caption;
}

function cardOf(image, first) {
  const item = make("li");
  const button = make("button", "card-button");
  button.type = "button";
  button.tabIndex = first ? 0 : -1; // one stop of the Tab key; arrows go on from there
  button.dataset.index = image.index;
  button.title = image.name;
  button.append(photoOf(image, { row: state.row }), captionOf(image, state.row));
  item.append(button);
  return item;
}

function focusCard(button) {
  for (const other of byId("cards").querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  button.tabIndex = 0;
  button.focus();
}

function moveInGallery(event) {
  const buttons = [...byId("cards").querySelectorAll(".card-button")];
  const at = buttons.indexOf(document.activeElement);
  if (at < 0) return;
  const top = buttons[0].offsetTop;
  const across = Math.max(1, buttons.findIndex((button) => button.offsetTop > top));
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
  let to = at + (steps[event.key] ?? NaN);
  if (event.key === "Home") to = 0;
  if (event.key === "End") to = buttons.length - 1;
  if (!buttons[to]) return;
  event.preventDefault();
  focusCard(buttons[to]);
}

function option(select, value, text) {
  const element = make("option", "", text);
  element.value = value;
  select.append(element);
}

function startGallery() {
  for (const i of data.boxRows) {
    option(byId("row"), i, data.rows[i].title);
    option(byId("view-row"), i, data.rows[i].title);
  }
  const labels = [...new Set(images.map((image) => image.label))];
  labels.sort((a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }));
  for (const label of labels) option(byId("class"), label, nameOf(label));
  for (const kind of ["", ...data.kinds]) {
    const button = make("button");
    button.type = "button";
    button.dataset.kind = kind;
    if (kind) button.title = data.meanings[kind];
    button.addEventListener("click", () => {
      state.kind = kind;
      update();
    });
    byId("kinds").append(button);
  }
  const on = (id, change) => byId(id).addEventListener("input", (event) => { change(event.target); update(); });
  on("order", (select) => { state.order = select.value; });
  on("row", (select) => { state.row = Number(select.value); });
  on("class", (select) => { state.label = select.value; });
  on("find", (input) => { state.find = input.value.trim().toLowerCase(); });
  for (const layer of ["map", "boxes"]) {
    const switches = [byId(`show-${layer}`), byId(`view-${layer}`)]; // in the gallery and in the large view
    const show = (on) => {
      for (const one of switches) one.checked = on;
      byId("cards").classList.toggle(`no-${layer}`, !on);
      byId("view").classList.toggle(`no-${layer}`, !on);
    };
    for (const one of switches) one.addEventListener("change", () => show(one.checked));
    show(true);
  }
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => {
    showPage(state.page + by);
    byId("gallery").scrollIntoView();
  };
  byId("previous-page").addEventListener("click", () => turn(-1));
  byId("next-page").addEventListener("click", () => turn(1));
  byId("cards").addEventListener("keydown", moveInGallery);
  byId("cards").addEventListener("click", (event) => {
    const button = event.target.closest(".card-button");
    if (button) openView(state.chosen.findIndex((image) => image.index === Number(button.dataset.index)));
  });
  const shades = Array.from({ length: 9 }, (_, i) => [...colours.subarray(3 * Math.round(i * 31.875)).subarray(0, 3)]);
  byId("legend").querySelector(".heat").style.background =
    `linear-gradient(to right, ${shades.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
  byId("order").value = "best";
  byId("find").value = "";
  byId("class").value = "";
  byId("row").value = "0";
  byId("controls").hidden = byId("legend").hidden = false;
  update();
}
