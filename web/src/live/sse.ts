// Reads a stream of Server-Sent Events by `fetch`: unlike EventSource it hears every kind of event and why it was refused.
import type { Connect, FarmEvent } from "./hub";

/** The server says something every 15 seconds; a stream silent for this long is dead. */
const SILENCE_MS = 40_000;

export const connect: Connect = async (url, signal, on) => {
  const dead = new AbortController();
  const answer = await fetch(url, {
    headers: { Accept: "text/event-stream" },
    cache: "no-store",
    signal: AbortSignal.any([signal, dead.signal]),
  });
  if (!answer.ok || answer.body === null) return answer.status;
  on.open();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const frames = new Frames((id, data) => {
    if (data === null) on.place(id);
    else on.event(JSON.parse(data) as FarmEvent);
  });
  for (;;) {
    const silence = setTimeout(() => dead.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return answer.status;
    frames.add(value);
  }
};

/** Puts frames together from pieces of text; calls back with the id and the data of each that has an id. */
export class Frames {
  private rest = "";

  constructor(private readonly found: (id: number, data: string | null) => void) {}

  add(piece: string): void {
    const frames = (this.rest + piece).split("\n\n");
    this.rest = frames.pop() ?? "";
    for (const frame of frames) this.read(frame);
  }

  private read(frame: string): void {
    const fields = frame.split("\n").map((line) => /^(\w+): ?(.*)$/.exec(line));
    const field = (name: string) => fields.find((one) => one?.[1] === name)?.[2];
    const id = Number(field("id"));
    if (field("id") !== undefined && Number.isInteger(id)) this.found(id, field("data") ?? null);
  }
}
