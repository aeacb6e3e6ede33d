/** Images and videos for tests: valid as far as their bytes are inspected, different for every seed. */
import { createHash } from "node:crypto";
import { crc32, deflateSync } from "node:zlib";

/** `size` bytes that look random and are the same for the same seed. */
export function noise(size: number, seed: string): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at * 64 < size; at += 1) pieces.push(createHash("sha512").update(`${seed}:${at}`).digest());
  return Buffer.concat(pieces).subarray(0, size);
}

/** A file of exactly `bytes` bytes that begins like a PNG. */
export function fakePng(bytes: number, seed = ""): Buffer {
  return withHead(Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"), bytes, seed);
}

/** A file of exactly `bytes` bytes that starts like an MP4 video. */
export function fakeMp4(bytes: number, seed = ""): Buffer {
  return withHead(Buffer.from("00000018667479706d70343200000000", "hex"), bytes, seed);
}

function withHead(head: Buffer, bytes: number, seed: string): Buffer {
  // One repeated block of noise: hashing megabytes of it would be the slowest part of a test.
  const file = Buffer.alloc(bytes, noise(4096, seed));
  head.copy(file);
  return file;
}

/** A PNG that every decoder accepts; about `width × height × 3` bytes. */
export function realPng(width: number, height: number, seed = ""): Buffer {
  const row = width * 3 + 1;
  const pixels = noise(row * height, seed);
  for (let y = 0; y < height; y += 1) pixels[y * row] = 0;
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from("89504e470d0a1a0a", "hex"),
    chunk("IHDR", head),
    chunk("IDAT", deflateSync(pixels, { level: 0 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}
