"use strict";
// Data blocks, photos with their map and boxes. Text from data only ever becomes textContent.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const colours = bytesOf(data.colours); // 256 times red, green, blue
const HEAT = 0.5; // opacity where a map is 1

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const images = data.images.map(([name, label, width, height, truth, classes, rank, found], index) => ({
  index, name, label, width, height, truth, classes, rank, found,
}));

function nameOf(label) {
  return data.classes[label] || String(label);
}

// The model's classes need not be those of the labels; only those of the first row's method are known.
const predicts = (row) => data.rows[row].map === data.rows[0].map;
function predictedOf(label) {
  return data.predicted[label] || String(label);
}

// Thumbnails and maps lie in blocks of lines, so that only what is looked at is ever taken apart.
const blocks = new Map();
function lineOf(image) {
  const number = Math.floor(image.index / data.block);
  if (!blocks.has(number)) {
    if (blocks.size > 8) blocks.delete(blocks.keys().next().value);
    blocks.set(number, byId(`pictures-${number}`).textContent.split("\n"));
  }
  return blocks.get(number)[image.index % data.block].split(" ");
}

function drawMap(size, values, alphaOf) {
  const [height, width] = size;
  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  for (let i = 0; i < values.length; i += 1) {
    picture.data.set(colours.subarray(3 * values[i], 3 * values[i] + 3), 4 * i);
    picture.data[4 * i + 3] = alphaOf(values[i]);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

function mapOf(image, row) {
  const place = data.rows[row].map;
  const word = place === null ? "-" : lineOf(image)[1 + place];
  if (word === "-") return null;
  const [height, width, base64] = word.split(",");
  return { size: [Number(height), Number(width)], values: bytesOf(base64) };
}

function rectangle(svg, box, className) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const [x0, y0, x1, y1] = box;
  for (const [key, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: className })) {
    element.setAttribute(key, value);
  }
  svg.append(element);
}

function boxesOf(image, row) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const box = image.found[row] && image.found[row][0];
  for (const truth of image.truth) rectangle(svg, truth, "shade");
  for (const truth of image.truth) rectangle(svg, truth, "true-box");
  if (box) {
    rectangle(svg, box, "shade");
    rectangle(svg, box, "found-box");
  }
  return svg;
}

// A photo in the shape of the original, with what lies on it; `large` asks for the larger picture if there is one.
function photoOf(image, { large = false, layer = null, row = null }) {
  const frame = make("span", "frame");
  const photo = make("span", image.width >= image.height ? "photo broad" : "photo tall");
  photo.style.setProperty("--ratio", image.width / image.height);
  const block = large && byId(`large-${image.index}`);
  const content = block ? block.textContent : lineOf(image)[0];
  if (content === "-") {
    photo.append(make("span", "missing", "no photo"));
  } else {
    const picture = make("img");
    picture.decoding = "async";
    picture.alt = "";
    picture.src = `data:image/webp;base64,${content}`;
    photo.append(picture);
  }
  if (layer) photo.append(layer);
  if (row !== null) {
    const map = mapOf(image, row);
    if (map) {
      const canvas = drawMap(map.size, map.values, (value) => HEAT * value);
      const [left, top, right, bottom] = data.view; // a cropped protocol looks at a part of the photo
      canvas.style.inset = `${100 * top}% ${100 * (1 - right)}% ${100 * (1 - bottom)}% ${100 * left}%`;
      canvas.style.width = `${100 * (right - left)}%`;
      canvas.style.height = `${100 * (bottom - top)}%`;
      photo.append(canvas);
    }
    photo.append(boxesOf(image, row));
  }
  frame.append(photo);
  return frame;
}

function outcome(image, row) {
  const found = image.found[row];
  if (!found) return null;
  const [box, iou, kind, score] = found;
  return { box, iou: iou === null ? -1 : iou, kind: data.kinds[kind], score };
}

function iouText(result) {
  if (!result) return "";
  return result.iou < 0 ? "no box" : `IoU ${result.iou.toFixed(2)}`;
}
