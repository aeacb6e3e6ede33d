// An image in a message: uploaded once, then referenced. `node files.mjs [path]`
import { Kimi, KimiRequestError } from "pi-provider-kimi-code";

const kimi = new Kimi();
const path = process.argv[2] ?? "picture.png";

try {
  const file = await kimi.files.upload(path, {
    signal: AbortSignal.timeout(120_000),
    onProgress: ({ sent, total }) => console.log(`${Math.round((100 * sent) / total)} %`),
  });
  console.log(`${file.known ? "known" : "uploaded"}: ${file.mimeType}, ${file.bytes} bytes`);

  const media =
    file.purpose === "video"
      ? { type: "video_url", video_url: { url: file.url } }
      : { type: "image_url", image_url: { url: file.url } };
  const content = [media, { type: "text", text: "What is this?" }];
  console.log(await kimi.chat([{ role: "user", content }]).text());
} catch (error) {
  if (!(error instanceof KimiRequestError)) throw error;
  console.log(`${error.code}: ${error.message}`);
}
