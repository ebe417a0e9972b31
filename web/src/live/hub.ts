// One event stream for all tabs of a browser. It rests while every tab is hidden, comes back by itself with the last id
// it saw, and tells a tab that missed something to look at everything again.

export interface FarmEvent {
  readonly id: number;
  readonly kind: string;
  readonly transcription_id: string | null;
  readonly at: number;
  readonly data: Readonly<Record<string, unknown>>;
}

export type ToTab =
  | { readonly type: "event"; readonly event: FarmEvent }
  | { readonly type: "reset" }
  | { readonly type: "connected"; readonly connected: boolean }
  | { readonly type: "signed-out" };
export type FromTab = { readonly type: "hello"; readonly url: string } | { readonly type: "visible" | "hidden" | "bye" };
export type Send = (message: ToTab) => void;

/** Connects and calls back; resolves when the stream ends, with the status of an answer that was no stream. */
export type Connect = (
  url: string,
  signal: AbortSignal,
  on: { open: () => void; event: (event: FarmEvent) => void; place: (id: number) => void },
) => Promise<number>;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
export const REST_AFTER_MS = 20_000;

interface Tab {
  visible: boolean;
  missed: boolean;
}

export class Hub {
  private readonly tabs = new Map<Send, Tab>();
  private url = "";
  private last: number | null = null;
  private running: AbortController | null = null;
  private connected = false;
  private rest: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly connect: Connect) {}

  heard(send: Send, message: FromTab): void {
    switch (message.type) {
      case "hello":
        this.url = message.url;
        this.tabs.set(send, { visible: true, missed: false });
        if (this.connected) send({ type: "connected", connected: true });
        break;
      case "visible":
        this.show(send);
        break;
      case "hidden": {
        const tab = this.tabs.get(send);
        if (tab) tab.visible = false;
        break;
      }
      case "bye":
        this.tabs.delete(send);
        break;
    }
    this.settle();
  }

  private show(send: Send): void {
    const tab = this.tabs.get(send);
    if (!tab) return;
    tab.visible = true;
    if (tab.missed) send({ type: "reset" });
    tab.missed = false;
    send({ type: "connected", connected: this.connected || this.running === null });
  }

  private settle(): void {
    const wanted = [...this.tabs.values()].some((tab) => tab.visible);
    if (wanted) {
      if (this.rest !== null) clearTimeout(this.rest);
      this.rest = null;
      if (this.running === null) void this.run();
    } else if (this.running !== null && this.rest === null) {
      this.rest = setTimeout(() => this.stop(), this.tabs.size === 0 ? 0 : REST_AFTER_MS);
    }
  }

  private stop(): void {
    this.rest = null;
    this.running?.abort();
    this.running = null;
    this.connected = false;
  }

  private async run(): Promise<void> {
    const running = new AbortController();
    this.running = running;
    let pause = FIRST_PAUSE_MS;
    while (!running.signal.aborted) {
      const status = await this.connect(this.address(), running.signal, {
        open: () => {
          pause = FIRST_PAUSE_MS;
          this.became(true);
        },
        event: (event) => this.give(event),
        place: (id) => (this.last = id),
      }).catch(() => 0);
      if (running.signal.aborted) return;
      if (status === 401) {
        this.stop();
        this.tell({ type: "signed-out" });
        return;
      }
      this.became(false);
      await sleep(pause * (0.75 + Math.random() / 2), running.signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  }

  private address(): string {
    return this.last === null ? this.url : `${this.url}?after=${this.last}`;
  }

  private became(connected: boolean): void {
    if (this.connected === connected && connected) return;
    this.connected = connected;
    this.tell({ type: "connected", connected });
    // What happened before the first connection was not heard.
    if (connected && this.last === null) this.tell({ type: "reset" });
  }

  private give(event: FarmEvent): void {
    this.last = event.id;
    this.tell(event.kind === "reset" ? { type: "reset" } : { type: "event", event });
  }

  private tell(message: ToTab): void {
    for (const [send, tab] of this.tabs) {
      if (tab.visible || message.type === "signed-out") send(message);
      else if (message.type !== "connected") tab.missed = true;
    }
  }
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
