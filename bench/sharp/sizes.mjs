// Records what sharp makes of sizes, positions, angles and frames: `node sizes.mjs > sizes.json`.
// The test tests/unit/engine/test_sharp_sizes.py holds our rules against this record.

import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);

const FITS = ["fill", "inside", "outside", "cover", "contain"];
const ORIGINALS = [
  [400, 300], [300, 400], [256, 256], [101, 100], [100, 101], [640, 427], [427, 640], [1023, 767], [37, 59],
  [4000, 3000], [3024, 4032], [3, 2], [2, 3], [1, 1], [10000, 3], [1, 1000],
];
const BOXES = [
  [150, 150], [150, 100], [100, 150], [99, 77], [77, 99], [333, 250], [640, 480], [801, 599], [600, 1200], [1, 1], [2, 3],
  [150, null], [333, null], [601, null], [1200, null], [1, null],
  [null, 150], [null, 77], [null, 599], [null, 1200], [null, 1],
];
const MOST_PIXELS = 4e6;

const POSITIONS = [
  "centre", "top", "right top", "right", "right bottom", "bottom", "left bottom", "left", "left top",
];
const PLACED = [
  [[101, 100], [50, 50]], [[101, 100], [50, 100]], [[100, 101], [100, 50]], [[200, 120], [61, 61]],
  [[200, 120], [60, 40]], [[120, 200], [60, 40]], [[97, 41], [20, 20]], [[41, 97], [21, 30]],
  [[20, 10], [40, 40]], [[20, 11], [15, 40]], [[64, 48], [100, 30]], [[64, 48], [31, 100]], [[9, 7], [12, 12]],
];

const ANGLES = [1, 5, 12.5, 30, 33.3, 45, 60, 89, 90, 91, 135, 150, 180, 200, 270, 315, 359, 360, -30, -45, -90];
const TURNED = [[400, 300], [300, 400], [256, 256], [101, 100], [640, 427], [37, 59], [3, 2], [1, 1]];

const FRAMES = [
  { size: [60, 40], region: [7, 5, 20, 10] },
  { size: [60, 40], region: [0, 0, 20, 10] },
  { size: [60, 40], region: [40, 30, 20, 10] },
  { size: [60, 40], region: [30, 20, 1, 1] },
  { size: [61, 41], region: [1, 1, 59, 39] },
];

function plain([width, height]) {
  return sharp({ create: { width, height, channels: 3, background: "#808080" } });
}

async function sizeOf(image) {
  const { info } = await image.raw().toBuffer({ resolveWithObject: true });
  return [info.width, info.height];
}

function isTooMuch(fit, [width, height], [across, down]) {
  const scales = [(across ?? 0) / width, (down ?? 0) / height].filter((scale) => scale > 0);
  const scale = fit === "outside" || fit === "cover" || scales.length === 1 ? Math.max(...scales) : 1;
  return width * height * scale * scale > MOST_PIXELS && scale > 1;
}

async function resized(fit, original, [width, height], withoutEnlargement) {
  if (!withoutEnlargement && isTooMuch(fit, original, [width, height])) return null;
  const options = { width: width ?? undefined, height: height ?? undefined, fit, withoutEnlargement };
  return sizeOf(plain(original).resize(options));
}

async function sizes() {
  const table = {};
  for (const fit of FITS) {
    table[fit] = [];
    for (const original of ORIGINALS) {
      const row = [];
      for (const box of BOXES) {
        row.push([await resized(fit, original, box, true), await resized(fit, original, box, false)]);
      }
      table[fit].push(row);
    }
  }
  return table;
}

// Red grows from left to right and green from top to bottom; blue is the picture's, and not the padding's.
function ramp([width, height]) {
  const steps = [width, height].map((side) => Math.floor(255 / (side - 1)));
  const data = Buffer.alloc(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) data.set([x * steps[0], y * steps[1], 255], (y * width + x) * 3);
  }
  return sharp(data, { raw: { width, height, channels: 3 } });
}

async function pixels(original, options) {
  const image = ramp(original).resize({ background: "#000000", ...options });
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const size = [info.width, info.height];
  return { size, at: (x, y) => [...data.subarray((y * size[0] + x) * 3, (y * size[0] + x) * 3 + 3)] };
}

async function placed(fit, original, [width, height], position, withoutEnlargement) {
  const result = await pixels(original, { width, height, fit, position, withoutEnlargement });
  if (fit === "contain") return { size: result.size, offset: embedded(result.size, result.at) };
  const whole = await pixels(original, { width, height, fit: "outside", withoutEnlargement });
  return { size: result.size, offset: cut(whole, result) };
}

function embedded([width, height], at) {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) if (at(x, y)[2] > 127) return [x, y];
  }
  return null;
}

// Where in the uncut result the cut one lies: the place where its diagonal differs least.
function cut(whole, part) {
  const spare = part.size.map((side, axis) => whole.size[axis] - side);
  let best = { difference: Infinity };
  for (let y = 0; y <= spare[1]; y++) {
    for (let x = 0; x <= spare[0]; x++) {
      const difference = distance(whole, part, x, y);
      if (difference < best.difference) best = { difference, offset: [x, y] };
    }
  }
  return best.offset;
}

function distance(whole, part, x, y) {
  let sum = 0;
  for (let step = 0; step < Math.min(...part.size); step++) {
    const [one, other] = [part.at(step, step), whole.at(x + step, y + step)];
    sum += Math.abs(one[0] - other[0]) + Math.abs(one[1] - other[1]);
  }
  return sum;
}

async function positions() {
  const rows = [];
  for (const fit of ["cover", "contain"]) {
    for (const [original, box] of PLACED) {
      for (const withoutEnlargement of [true, false]) {
        const found = [];
        for (const position of POSITIONS) {
          found.push(await placed(fit, original, box, position, withoutEnlargement));
        }
        rows.push([fit, original, box, withoutEnlargement, found[0].size, found.map((one) => one.offset)]);
      }
    }
  }
  return rows;
}

async function angles() {
  const rows = [];
  for (const original of TURNED) {
    const row = [];
    for (const angle of ANGLES) row.push(await sizeOf(plain(original).rotate(angle)));
    rows.push(row);
  }
  return rows;
}

async function trims() {
  const rows = [];
  for (const { size, region } of FRAMES) {
    const [left, top, width, height] = region;
    const inner = await sharp({ create: { width, height, channels: 3, background: "#c02020" } }).png().toBuffer();
    const framed = await sharp({ create: { width: size[0], height: size[1], channels: 3, background: "#ffffff" } })
      .composite([{ input: inner, left, top }])
      .png()
      .toBuffer();
    const { info } = await sharp(framed).trim().raw().toBuffer({ resolveWithObject: true });
    rows.push([size, region, [-(info.trimOffsetLeft ?? 0), -(info.trimOffsetTop ?? 0), info.width, info.height]]);
  }
  return rows;
}

const record = {
  sharp: sharp.versions.sharp,
  originals: ORIGINALS,
  boxes: BOXES,
  sizes: await sizes(),
  position_names: POSITIONS,
  positions: await positions(),
  angle_degrees: ANGLES,
  angle_originals: TURNED,
  angles: await angles(),
  trims: await trims(),
};
console.log(JSON.stringify(record).replaceAll("[[[", "\n[[["));
