// The shared worker: one stream for all tabs.
import { type FromTab, Hub, type Send } from "./hub";
import { connect } from "./sse";

const hub = new Hub(connect);

(globalThis as unknown as { onconnect: (event: MessageEvent) => void }).onconnect = (event) => {
  const port = event.ports[0];
  if (!port) return;
  const send: Send = (message) => port.postMessage(message);
  port.onmessage = (message: MessageEvent<FromTab>) => hub.heard(send, message.data);
};
