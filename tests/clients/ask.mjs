// Asks a farm as Node's programs do, and prints what they got: node ask.mjs BASE_URL TOKEN FILE
import fs from "node:fs";
import OpenAI, { toFile } from "openai";
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_transcribe as transcribe } from "ai";

const [baseURL, apiKey, path] = process.argv.slice(2);
const openai = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const audio = openai.audio.transcriptions;
const model = "whisper-1";
const stream = () => fs.createReadStream(path);

const deltas = [];
for await (const event of await audio.create({ model, file: stream(), stream: true })) deltas.push(event);
const refusal = await audio.create({ model: "whisper-9", file: stream() }).catch((error) => error);
const sdk = createOpenAI({ baseURL, apiKey });
const heard = await transcribe({ model: sdk.transcription(model), audio: fs.readFileSync(path) });
const words = await transcribe({
  model: sdk.transcription(model),
  audio: fs.readFileSync(path),
  providerOptions: { openai: { language: "en", timestampGranularities: ["word"], temperature: 0 } },
});

console.log(
  JSON.stringify({
    stream: await audio.create({ model, file: stream() }),
    buffer: await audio.create({ model, file: await toFile(fs.readFileSync(path)) }),
    verbose: await audio.create({
      model,
      file: stream(),
      response_format: "verbose_json",
      timestamp_granularities: ["word", "segment"],
    }),
    srt: await audio.create({ model, file: stream(), response_format: "srt" }),
    deltas,
    refusal: { status: refusal.status, code: refusal.code, param: refusal.param, kind: refusal.constructor.name },
    models: (await openai.models.list()).data.map((each) => each.id),
    sdk: { text: heard.text, segments: heard.segments, language: heard.language, seconds: heard.durationInSeconds },
    sdkWords: words.segments,
  }),
);
