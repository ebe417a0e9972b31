// A tab's share of the event stream: whether it is connected, and what happened.
import { address } from "../api/client";
import { type FarmEvent, type FromTab, Hub, type ToTab } from "./hub";
import { connect } from "./sse";

type Listener = (message: ToTab) => void;

const listeners = new Set<Listener>();
let post: ((message: FromTab) => void) | null = null;

/** Hear events until the function that is returned is called. The first listener opens the stream. */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  if (post === null) start();
  return () => {
    listeners.delete(listener);
  };
}

/** Open the stream again: after signing in. */
export function hello(): void {
  post?.({ type: "hello", url: address("api/events") });
}

function start(): void {
  post = open((message) => listeners.forEach((listener) => listener(message)));
  hello();
  document.addEventListener("visibilitychange", () => post?.({ type: document.hidden ? "hidden" : "visible" }));
  window.addEventListener("pagehide", () => post?.({ type: "bye" }));
  window.addEventListener("pageshow", (event) => event.persisted && hello());
}

function open(heard: (message: ToTab) => void): (message: FromTab) => void {
  if (typeof SharedWorker === "undefined") {
    const hub = new Hub(connect);
    return (message) => hub.heard(heard, message);
  }
  const worker = new SharedWorker(new URL("./worker.ts", import.meta.url), { type: "module", name: "farm-events" });
  worker.port.onmessage = (event: MessageEvent<ToTab>) => heard(event.data);
  return (message) => worker.port.postMessage(message);
}

export type { FarmEvent };
