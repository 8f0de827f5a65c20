// Cells as dots, written into the pixels of a canvas: 100,000 of them in a few milliseconds.

const SHAPES = { o: (u, v) => Math.hypot(u, v), s: (u, v) => Math.max(Math.abs(u), Math.abs(v)) * 1.15, D: (u, v) => (Math.abs(u) + Math.abs(v)) * 0.85, "^": (u, v) => Math.max(v * 1.3, Math.abs(u) * 1.25 - v * 0.65) };

// Offsets of the pixels of a dot and how much of each it covers.
function stamp(radius, shape) {
  const found = [];
  const most = Math.ceil(radius + 1);
  for (let v = -most; v <= most; v++) {
    for (let u = -most; u <= most; u++) {
      const cover = Math.min(Math.max(radius + 0.5 - shape(u, v), 0), 1);
      if (cover > 0) found.push([u, v, cover]);
    }
  }
  return found;
}

function dotRadius(space, frame, ratio) {
  if (space.spots) return Math.max(1.5, (0.42 * frame.scale * Math.sqrt((space.wide * space.tall) / space.n)) || 4);
  const size = Math.min(Math.max(60 / Math.sqrt(space.n), 1), 4.2);
  return size * ratio * Math.min(space.zoom ** 0.35, 3);
}

function paint(canvas, space, colour, selection, background) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const { width, height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  const frame = space.frame(width, height);
  context.clearRect(0, 0, width, height);
  if (background) {
    context.fillStyle = background;
    context.fillRect(0, 0, width, height);
  }
  if (space.picture && space.picture.complete && space.showPicture) {
    const [x, y, w, h] = space.box.map((value) => value * frame.scale);
    context.globalAlpha = 0.75;
    context.drawImage(space.picture, frame.left + x, frame.top + y, w, h);
    context.globalAlpha = 1;
  }
  const image = context.getImageData(0, 0, width, height);
  const radius = dotRadius(space, frame, ratio);
  const stamps = (colour.shape || ["o"]).map((name) => stamp(radius, SHAPES[name] || SHAPES.o));
  const order = drawingOrder(space.n);
  for (const chosen of selection ? [0, 1] : [1]) {
    for (let k = 0; k < space.n; k++) {
      const i = order[k];
      if (selection && selection[i] !== chosen) continue;
      const step = colour.step[i];
      const fill = chosen ? colour.fill[step] : GREY;
      dot(image, frame.left + (space.x[i] / 65535) * frame.scale, frame.top + (space.y[i] / 65535) * frame.scale, fill, stamps[colour.groups ? step : 0] || stamps[0], chosen ? 0.9 : 0.22);
    }
  }
  context.putImageData(image, 0, 0);
  return frame;
}

function dot({ data, width, height }, x, y, fill, pixels, alpha) {
  const [left, top] = [Math.round(x), Math.round(y)];
  for (const [u, v, cover] of pixels) {
    const [px, py] = [left + u, top + v];
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    const at = 4 * (py * width + px);
    const over = cover * alpha;
    const under = (data[at + 3] / 255) * (1 - over);
    const total = over + under;
    for (let c = 0; c < 3; c++) data[at + c] = (fill[c] * over + data[at + c] * under) / total;
    data[at + 3] = 255 * total;
  }
}

// The same order every time, in which no group hides under the last one.
const orders = new Map();
function drawingOrder(n) {
  if (!orders.has(n)) {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    let state = 1;
    for (let i = n - 1; i > 0; i--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const j = Math.floor((state / 4294967296) * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    orders.set(n, order);
  }
  return orders.get(n);
}

// The middle of each group that gathers somewhere, for its name.
function namePlaces(space, colour) {
  const most = 24;
  const groups = colour.labels.map((label, g) => ({ label, g, size: colour.sizes[g] })).sort((a, b) => b.size - a.size).slice(0, most);
  const members = new Map(groups.map(({ g }) => [g, []]));
  for (let i = 0; i < space.n; i++) members.get(colour.step[i])?.push(i);
  return groups.filter(({ size }) => size > 0).flatMap(({ label, g }) => {
    const cells = members.get(g);
    const half = (of) => cells.map((i) => of[i]).sort((a, b) => a - b)[cells.length >> 1];
    const middle = [half(space.x), half(space.y)];
    let [best, closest] = [cells[0], Infinity];
    for (const i of cells) {
      const distance = Math.abs(space.x[i] - middle[0]) + Math.abs(space.y[i] - middle[1]);
      if (distance < closest) [best, closest] = [i, distance];
    }
    if (cells.length >= 20 && !gathers(space, colour, g, space.x[best], space.y[best])) return [];
    return [{ label: label.length > 28 ? `${label.slice(0, 27)}…` : label, x: space.x[best], y: space.y[best] }];
  });
}

// Whether most of the cells around a place are of a group.
function gathers(space, colour, group, x, y) {
  const reach = 0.03 * 65535;
  let [own, all] = [0, 0];
  for (let i = 0; i < space.n; i++) {
    if (Math.abs(space.x[i] - x) > reach || Math.abs(space.y[i] - y) > reach) continue;
    all++;
    if (colour.step[i] === group) own++;
  }
  return own > all / 2;
}

// Names that do not lie on each other, in pixels.
function nameLayout(places, frame, context, size) {
  const taken = [];
  return places.flatMap(({ label, x, y }) => {
    const half = context.measureText(label).width / 2;
    const [at, py] = [frame.left + (x / 65535) * frame.scale, frame.top + (y / 65535) * frame.scale];
    const px = Math.min(Math.max(at, half + 3), context.canvas.width - half - 3);
    if (taken.some((t) => Math.abs(t.px - px) < t.half + half + 3 && Math.abs(t.py - py) < size * 1.2)) return [];
    taken.push({ px, py, half });
    return [{ label, px, py }];
  });
}
