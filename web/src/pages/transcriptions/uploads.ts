// Files on their way to the farm: announced, sent with progress, submitted. They go on while you look at other pages.
// A broken connection is tried again; what was refused says why.
import { address, api, ApiError, APP_HEADER, data, refusal } from "../../api/client";
import type { Submission, Transfer } from "../../api/schema";

export type Options = NonNullable<Submission["options"]>;

export interface Upload {
  readonly id: number;
  readonly file: File;
  readonly state: "waiting" | "sending" | "pausing" | "submitting" | "failed";
  readonly sent: number;
  readonly againAt: number;
  readonly problem: string | null;
}

const AT_ONCE = 2;
const TRIES = 8;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

interface Choice {
  readonly options: Partial<Options>;
  readonly priority: number;
}

class Uploads {
  private list: readonly Upload[] = [];
  private readonly choices = new Map<number, Choice>();
  private readonly listeners = new Set<() => void>();
  private count = 0;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): readonly Upload[] => this.list;

  get busy(): boolean {
    return this.list.some((one) => one.state !== "failed");
  }

  add(files: readonly File[], choice: Choice): void {
    for (const file of files) {
      const upload: Upload = { id: ++this.count, file, state: "waiting", sent: 0, againAt: 0, problem: null };
      this.choices.set(upload.id, choice);
      this.list = [...this.list, upload];
    }
    this.next();
  }

  again(id: number): void {
    this.change(id, { state: "waiting", sent: 0, problem: null });
    this.next();
  }

  dismiss(id: number): void {
    this.list = this.list.filter((one) => one.id !== id);
    this.choices.delete(id);
    this.tell();
  }

  private change(id: number, change: Partial<Upload>): void {
    this.list = this.list.map((one) => (one.id === id ? { ...one, ...change } : one));
    this.tell();
  }

  private tell(): void {
    this.listeners.forEach((listener) => listener());
  }

  private next(): void {
    this.tell();
    const under = this.list.filter((one) => one.state !== "waiting" && one.state !== "failed").length;
    for (const one of this.list.filter(({ state }) => state === "waiting").slice(0, Math.max(0, AT_ONCE - under))) {
      void this.send(one.id, one.file).finally(() => this.next());
    }
  }

  private async send(id: number, file: File): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      this.change(id, { state: "sending", sent: 0 });
      try {
        const name = file.name.slice(-255);
        const target = await data(api.POST("/api/uploads", { body: { name, size: file.size } }));
        await put(target.transfer, file, (sent) => this.change(id, { sent }));
        this.change(id, { state: "submitting" });
        const choice = this.choices.get(id) ?? { options: {}, priority: 0 };
        const body = { name, upload_id: target.upload_id, key: target.upload_id, ...choice };
        await data(api.POST("/api/transcriptions", { body: body as Submission }));
        this.dismiss(id);
        return;
      } catch (error) {
        const lasting = error instanceof ApiError && error.status < 500 && error.status !== 408;
        if (lasting || attempt >= TRIES) {
          this.change(id, { state: "failed", problem: (error as Error).message });
          return;
        }
        const pause = Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), LONGEST_PAUSE_MS);
        this.change(id, { state: "pausing", againAt: Date.now() / 1000 + pause / 1000 });
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }
}

export const uploads = new Uploads();

/** Send the bytes; `fetch` cannot tell how far it is. */
function put(transfer: Transfer, file: File, progress: (sent: number) => void): Promise<void> {
  const ours = !/^https?:/.test(transfer.url);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(transfer.method, ours ? address(transfer.url) : transfer.url);
    const headers = { ...(transfer.headers ?? {}), ...(ours ? APP_HEADER : {}) };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, String(value));
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(refusal(request.status, parsed(request.responseText)));
    };
    request.onerror = () => reject(new Error("The connection broke."));
    request.send(file);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

window.addEventListener("beforeunload", (event) => {
  if (uploads.busy) event.preventDefault();
});
