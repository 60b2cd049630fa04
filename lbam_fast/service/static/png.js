// A grey PNG file of 8 bits, made of rows as they come, so that no canvas has to hold a large picture.

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = table[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, checksum(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

/** bands: an iterable, or an async one, of Uint8Array with whole rows of `width` bytes, `height` rows in all. */
export async function greyPng(width, height, bands) {
  const deflate = new CompressionStream("deflate");
  const packed = new Response(deflate.readable).arrayBuffer();
  const writer = deflate.writable.getWriter();
  for await (const band of bands) {
    const rows = band.length / width;
    const filtered = new Uint8Array(rows * (width + 1)); // each row after filter 0
    for (let y = 0; y < rows; y++) filtered.set(band.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
    await writer.write(filtered);
  }
  await writer.close();
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8;
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", new Uint8Array(await packed)), chunk("IEND", new Uint8Array())];
  return new Blob(parts, { type: "image/png" });
}
