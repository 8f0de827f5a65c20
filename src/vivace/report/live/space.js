// Where cells lie: coordinates, the part that is looked at, and the cell nearest to a place.

const CELLS = 128; // of the search grid, along either side

class Space {
  constructor(given, x, y) {
    Object.assign(this, given, { x, y, n: x.length });
    this.reset();
    this.index();
    if (given.image) {
      this.picture = new Image();
      this.picture.src = given.image;
    }
  }

  reset() {
    this.zoom = 1;
    this.middle = [this.wide / 2, this.tall / 2];
  }

  index() {
    const bin = (i) => (this.y[i] >> 9) * CELLS + (this.x[i] >> 9);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.n; i++) this.starts[bin(i) + 1]++;
    for (let b = 0; b < CELLS * CELLS; b++) this.starts[b + 1] += this.starts[b];
    const next = this.starts.slice();
    this.members = new Uint32Array(this.n);
    for (let i = 0; i < this.n; i++) this.members[next[bin(i)]++] = i;
  }

  // Pixels a unit of the space, and the pixel of its origin.
  frame(width, height) {
    const margin = 0.05;
    const fit = Math.min((width * (1 - 2 * margin)) / this.wide || Infinity, (height * (1 - 2 * margin)) / this.tall || Infinity);
    const scale = (Number.isFinite(fit) ? fit : width / 2) * this.zoom;
    return { scale, left: width / 2 - this.middle[0] * scale, top: height / 2 - this.middle[1] * scale };
  }

  move(dx, dy, frame) {
    this.middle = [this.middle[0] - dx / frame.scale, this.middle[1] - dy / frame.scale];
  }

  // Closer by a factor, with the place (px, py) staying where it is.
  closer(factor, px, py, width, height) {
    const before = this.frame(width, height);
    const [u, v] = [(px - before.left) / before.scale, (py - before.top) / before.scale];
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 200);
    const after = this.frame(width, height);
    this.middle = [u - (px - width / 2) / after.scale, v - (py - height / 2) / after.scale];
  }

  nearest(px, py, frame, reach) {
    const unit = frame.scale / 65535;
    const [x, y, r] = [(px - frame.left) / unit, (py - frame.top) / unit, reach / unit];
    const clamp = (value) => Math.min(Math.max(value >> 9, 0), CELLS - 1);
    let [best, closest] = [-1, r * r];
    for (let row = clamp(y - r); row <= clamp(y + r); row++) {
      for (let column = clamp(x - r); column <= clamp(x + r); column++) {
        const b = row * CELLS + column;
        for (let k = this.starts[b]; k < this.starts[b + 1]; k++) {
          const i = this.members[k];
          const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
          if (distance <= closest) [best, closest] = [i, distance];
        }
      }
    }
    return best;
  }

  // Which cells lie inside a line drawn in pixels.
  inside(line, frame) {
    const unit = frame.scale / 65535;
    const found = new Uint8Array(this.n);
    for (let i = 0; i < this.n; i++) {
      const [px, py] = [frame.left + this.x[i] * unit, frame.top + this.y[i] * unit];
      let within = false;
      for (let a = 0, b = line.length - 1; a < line.length; b = a++) {
        const [[ax, ay], [bx, by]] = [line[a], line[b]];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) within = !within;
      }
      found[i] = within ? 1 : 0;
    }
    return found;
  }
}
