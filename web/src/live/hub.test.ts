import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { type Connect, type FarmEvent, Hub, REST_AFTER_MS, type ToTab } from "./hub";
import { Frames } from "./sse";

const event = (id: number, kind = "job_done"): FarmEvent => ({ id, kind, transcription_id: "t", at: 0, data: {} });

class Server {
  urls: string[] = [];
  private on: Parameters<Connect>[2] | null = null;
  private end: (status: number) => void = () => undefined;

  connect: Connect = (url, signal, on) => {
    this.urls.push(url);
    this.on = on;
    return new Promise((resolve, reject) => {
      this.end = resolve;
      signal.addEventListener("abort", () => reject(new Error("aborted")));
    });
  };

  open = () => this.on?.open();
  send = (one: FarmEvent) => this.on?.event(one);
  break = (status = 0) => this.end(status);
}

function tab(hub: Hub) {
  const heard: ToTab[] = [];
  const send = (message: ToTab) => void heard.push(message);
  hub.heard(send, { type: "hello", url: "/api/events" });
  return { heard, kinds: () => heard.map(({ type }) => type), say: (type: "visible" | "hidden" | "bye") => hub.heard(send, { type }) };
}

describe("the one stream of a browser", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("serves all tabs, and asks them to look at everything when it first connects", async () => {
    const server = new Server();
    const hub = new Hub(server.connect);
    const [one, other] = [tab(hub), tab(hub)];
    server.open();
    server.send(event(5));
    expect(server.urls).toEqual(["/api/events"]);
    for (const each of [one, other]) expect(each.kinds()).toEqual(["connected", "reset", "event"]);
    await vi.advanceTimersByTimeAsync(0);
  });

  it("says that the connection is lost, and goes on after the last event", async () => {
    const server = new Server();
    const one = tab(new Hub(server.connect));
    server.open();
    server.send(event(5));
    server.break();
    await vi.advanceTimersByTimeAsync(2000);
    expect(one.heard.at(-1)).toEqual({ type: "connected", connected: false });
    expect(server.urls.at(-1)).toBe("/api/events?after=5");
    server.open();
    expect(one.heard.at(-1)).toEqual({ type: "connected", connected: true });
  });

  it("gives hidden tabs nothing, and a tab that missed something looks again", () => {
    const server = new Server();
    const hub = new Hub(server.connect);
    const [one, other] = [tab(hub), tab(hub)];
    server.open();
    other.say("hidden");
    const before = other.heard.length;
    server.send(event(6));
    expect(other.heard).toHaveLength(before);
    other.say("visible");
    expect(other.kinds().slice(before)).toContain("reset");
    one.say("hidden");
    one.say("visible");
    expect(one.kinds().filter((kind) => kind === "reset")).toHaveLength(1);
  });

  it("rests when no tab is seen for a while", async () => {
    const server = new Server();
    const one = tab(new Hub(server.connect));
    server.open();
    server.send(event(7));
    one.say("hidden");
    await vi.advanceTimersByTimeAsync(REST_AFTER_MS + 1);
    expect(server.urls).toHaveLength(1);
    one.say("visible");
    expect(server.urls.at(-1)).toBe("/api/events?after=7");
  });

  it("stops when nobody is signed in any more", async () => {
    const server = new Server();
    const one = tab(new Hub(server.connect));
    server.break(401);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(one.kinds()).toEqual(["signed-out"]);
    expect(server.urls).toHaveLength(1);
  });
});

it("puts frames together however they were cut", () => {
  const found: [number, string | null][] = [];
  const frames = new Frames((id, data) => found.push([id, data]));
  for (const piece of ["retry: 1000\n\nid: 1\nev", 'ent: job_done\ndata: {"a":1}\n', "\n: still here\nid: 4\n\n"]) frames.add(piece);
  expect(found).toEqual([[1, '{"a":1}'], [4, null]]);
});
