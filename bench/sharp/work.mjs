// sharp's side of the comparison: `node work.mjs JOB`. One request per line on standard input, one answer per
// line on standard output, both JSON; see ../contender.py.

import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { join } from "node:path";

import sharp from "sharp";

sharp.concurrency(1);
sharp.cache(false);

const QUALITY = 85;
const WEB = { thumbnail: 150, medium: 600, large: 1200, original: 4096 };
const SQUARES = { small: 150, medium: 400, large: 800 };

async function web(source, folder) {
  const photo = sharp(source).autoOrient();
  const made = Object.entries(WEB).map(([name, width]) =>
    photo
      .clone()
      .resize({ width, withoutEnlargement: true })
      .webp({ quality: QUALITY })
      .toFile(join(folder, `${name}.webp`)),
  );
  await Promise.all(made);
}

const thumbnails = (jpeg) => async (source, folder) => {
  const photo = sharp(source).autoOrient();
  const made = [photo.clone().jpeg(jpeg).toFile(join(folder, "original.jpg"))];
  for (const [name, side] of Object.entries(SQUARES)) {
    const square = photo.clone().resize(side, side, { fit: "cover" });
    made.push(square.clone().jpeg(jpeg).toFile(join(folder, `${name}.jpg`)));
    made.push(square.clone().webp({ quality: QUALITY }).toFile(join(folder, `${name}-webp.webp`)));
  }
  await Promise.all(made);
};

// The bytes stay in memory; the answer's file is written when the clock has stopped.
const fit = (jpeg) => (source) =>
  sharp(source)
    .autoOrient()
    .resize(800, 600, { fit: "inside", withoutEnlargement: true })
    .jpeg(jpeg)
    .toBuffer();

const JOBS = {
  web,
  "thumbnails-mozjpeg": thumbnails({ quality: QUALITY, mozjpeg: true }),
  "thumbnails-progressive": thumbnails({ quality: QUALITY, progressive: true }),
  "fit-plain": fit({ quality: QUALITY }),
  "fit-progressive": fit({ quality: QUALITY, progressive: true }),
};

const work = JOBS[process.argv[2]];
console.log(JSON.stringify({ name: `sharp ${sharp.versions.sharp}, libvips ${sharp.versions.vips}` }));
for await (const line of createInterface({ input: process.stdin })) {
  const { source, folder } = JSON.parse(line);
  const started = process.hrtime.bigint();
  const startedCpu = process.cpuUsage();
  const bytes = await work(source, folder);
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const { user, system } = process.cpuUsage(startedCpu);
  if (bytes) await writeFile(join(folder, "fit.jpg"), bytes);
  console.log(JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 }));
}
