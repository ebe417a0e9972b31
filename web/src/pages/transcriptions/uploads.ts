// Files on their way to the farm: announced, sent with progress, submitted. They go on while you look at other pages.
// They are sent in parts: a broken connection or a server that was started anew costs one part. A file that is chosen
// again goes on where it was. What was refused says why.
import { address, api, ApiError, APP_HEADER, data, noAnswer, refusal } from "../../api/client";
import type { Submission, Transfer, UploadTarget } from "../../api/schema";

export type Options = NonNullable<Submission["options"]>;

export interface Upload {
  readonly id: number;
  readonly file: File;
  readonly state: "waiting" | "sending" | "pausing" | "submitting" | "failed";
  readonly sent: number;
  readonly againAt: number;
  readonly problem: string | null;
  /** Whether another try may end otherwise. */
  readonly mendable: boolean;
}

const AT_ONCE = 2;
const TRIES = 120; // an hour
const PART_BYTES = 8 * 1024 * 1024;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

export interface Choice {
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
      const upload: Upload = { id: ++this.count, file, state: "waiting", sent: 0, againAt: 0, problem: null, mendable: true };
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
      const before = this.list.find((one) => one.id === id)?.sent ?? 0;
      this.change(id, { state: "sending" });
      try {
        const name = file.name.slice(-255);
        const [target, received] = await announced(file, name);
        await deliver(target.transfer, file, received, (sent) => this.change(id, { sent }));
        this.change(id, { state: "submitting" });
        const choice = this.choices.get(id) ?? { options: {}, priority: 0 };
        const body = { name, upload_id: target.upload_id, key: target.upload_id, ...choice };
        await data(api.POST("/api/transcriptions", { body: body as Submission }));
        known.delete(file);
        this.dismiss(id);
        return;
      } catch (error) {
        const lasting = error instanceof ApiError && error.status < 500 && error.status !== 408;
        if (lasting) known.delete(file);
        const problem = (error as Error).message;
        if (lasting || attempt >= TRIES) {
          const mendable = !(error instanceof ApiError && error.details.lasting);
          this.change(id, { state: "failed", problem, mendable });
          return;
        }
        if ((this.list.find((one) => one.id === id)?.sent ?? 0) > before + PART_BYTES) attempt = 0;
        const pause = Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
        this.change(id, { state: "pausing", problem, againAt: Date.now() / 1000 + pause / 1000 });
        await new Promise((resolve) => {
          setTimeout(resolve, pause);
          window.addEventListener("online", resolve, { once: true });
        });
      }
    }
  }
}

export const uploads = new Uploads();

/** What the farm was told of a file, kept until it is submitted: also over a reload of the page. */
const known = {
  key: (file: File) => `upload ${file.name} ${file.size} ${file.lastModified}`,
  get(file: File): UploadTarget | null {
    return (parsed(localStorage.getItem(this.key(file)) ?? "null") as UploadTarget | null | undefined) ?? null;
  },
  set(file: File, target: UploadTarget) {
    localStorage.setItem(this.key(file), JSON.stringify(target));
  },
  delete(file: File) {
    localStorage.removeItem(this.key(file));
  },
};

/** Where the file goes, and how much of it is there: the same place again if it was begun and is still expected. */
async function announced(file: File, name: string): Promise<[UploadTarget, number]> {
  const before = known.get(file);
  if (before) {
    try {
      // An empty part asks: an early refusal of a large one could break the connection.
      return [before, await part(before.transfer, new Blob(), 0, () => undefined)];
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (typeof error.details.received_bytes === "number") return [before, error.details.received_bytes];
    }
  }
  const target = await data(api.POST("/api/uploads", { body: { name, size: file.size } }));
  if (isOurs(target.transfer)) known.set(file, target);
  return [target, 0];
}

const isOurs = (transfer: Transfer) => !/^https?:/.test(transfer.url);

/** Send a file: to an object store at once, to the farm part by part, from where the farm is. */
async function deliver(transfer: Transfer, file: File, from: number, progress: (sent: number) => void): Promise<void> {
  if (!isOurs(transfer)) return void (await put(transfer, transfer.url, file, progress));
  let offset = from;
  do {
    const start = offset;
    progress(start);
    offset = await part(transfer, file.slice(start, start + PART_BYTES), start, (sent) => progress(start + sent));
  } while (offset < file.size);
}

/** Send one part; how many bytes the farm has then. */
async function part(transfer: Transfer, bytes: Blob, offset: number, progress: (sent: number) => void): Promise<number> {
  const answer = await put(transfer, `${address(transfer.url)}?offset=${offset}`, bytes, progress);
  return (parsed(answer) as { received_bytes: number }).received_bytes;
}

/** Send bytes; `fetch` cannot tell how far it is. */
function put(transfer: Transfer, url: string, bytes: Blob, progress: (sent: number) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(transfer.method, url);
    const headers = { ...(transfer.headers ?? {}), ...(isOurs(transfer) ? APP_HEADER : {}) };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, String(value));
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve(request.responseText);
      else reject(refusal(request.status, parsed(request.responseText)));
    };
    request.onerror = () => reject(noAnswer());
    request.send(bytes);
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
