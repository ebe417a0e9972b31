// What people change in a transcript, on its way to the farm: one change after the other, again until it has arrived.
// A change of a passage that somebody else has changed meanwhile becomes a conflict, which keeps both texts.
import { ApiError } from "../../api/client";
import type { EditsView, NewEdit } from "../../api/schema";
import { changed, type Segment, type Stretch, tidy } from "./segments";

export interface Text {
  readonly segments: readonly Segment[];
  /** The number of the newest edit in it. */
  readonly number: number;
}

export interface Conflict {
  readonly id: number;
  readonly mine: Stretch;
  readonly theirs: string;
  /** The number at which their text stands there. */
  readonly number: number;
}

/** How the farm is asked, and where the text is kept. */
export interface Farm {
  send(edit: NewEdit): Promise<EditsView>;
  since(number: number): Promise<EditsView>;
  text(): Text | undefined;
  show(text: Text, view: EditsView): void;
  /** Something else is wrong: say so. */
  refuse(error: ApiError): void;
}

export type Saving = "saved" | "saving" | "unsaved";
type Change = Partial<Omit<NewEdit, "based_on">>;

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

export class Corrections {
  conflicts: readonly Conflict[] = [];
  private turn: Promise<unknown> = Promise.resolve();
  private waiting = 0;
  private failing = false;
  private ids = 0;
  private readonly listeners = new Set<() => void>();
  private state: { saving: Saving; conflicts: readonly Conflict[] } = { saving: "saved", conflicts: [] };

  constructor(
    private readonly farm: Farm,
    private readonly sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
  ) {}

  subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };
  snapshot = () => this.state;

  get number(): number {
    return this.farm.text()?.number ?? 0;
  }

  get segments(): readonly Segment[] {
    return this.farm.text()?.segments ?? [];
  }

  /** Send a change; true once it counts. `basedOn` is the number of the text that its author saw. */
  change(change: Change, basedOn?: number): Promise<boolean> {
    this.waiting++;
    this.tell();
    return this.inTurn(async () => {
      try {
        return await this.untilSent({ patches: [], ...change, based_on: basedOn ?? this.number });
      } finally {
        this.waiting--;
        this.tell();
      }
    });
  }

  patch(patch: Stretch, basedOn?: number): Promise<boolean> {
    return this.change({ patches: [{ ...patch, segments: patch.segments && [...patch.segments] }] }, basedOn);
  }

  /** Take in what others have changed. */
  follow(): Promise<EditsView | undefined> {
    return this.inTurn(() => this.catchUp());
  }

  /** End a conflict: with the own text, or with theirs. */
  settle(conflict: Conflict, mine: boolean): void {
    this.conflicts = this.conflicts.filter(({ id }) => id !== conflict.id);
    this.tell();
    if (mine) void this.patch(conflict.mine, conflict.number);
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.turn.then(work);
    this.turn = mine.catch(() => undefined);
    return mine;
  }

  private async untilSent(edit: NewEdit): Promise<boolean> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        await this.take(await this.farm.send(edit), edit.based_on);
        this.failing = false;
        return true;
      } catch (error) {
        if (error instanceof ApiError && error.status < 500 && error.status !== 429 && error.status !== 408) {
          this.failing = false;
          return await this.refused(edit, error);
        }
        this.failing = true;
        this.tell();
        await this.sleep(pause);
      }
    }
  }

  private async take(view: EditsView, basedOn: number): Promise<void> {
    const text = this.farm.text();
    if (!text) return;
    if (text.number !== basedOn) await this.catchUp();
    else this.farm.show(view.changes.length ? { segments: changed(text.segments, view.changes), number: view.number } : { ...text, number: view.number }, view);
  }

  private async catchUp(): Promise<EditsView | undefined> {
    const number = this.farm.text()?.number;
    if (number === undefined) return undefined;
    const view = await this.farm.since(number);
    await this.take(view, number);
    return view;
  }

  private async refused(edit: NewEdit, error: ApiError): Promise<boolean> {
    await this.catchUp().catch(() => undefined);
    const mine = edit.patches?.[0];
    if (error.code !== "edit_conflict" || !mine) {
      this.farm.refuse(error);
      return false;
    }
    const { number, passages } = error.details as { number: number; passages: { segments: Segment[] }[] };
    const theirs = said(passages[0]?.segments ?? []);
    if (theirs === said(mine.segments ?? [])) return true; // it had arrived, and only the answer was lost
    this.conflicts = [...this.conflicts, { id: ++this.ids, mine, theirs, number }];
    this.tell();
    return false;
  }

  private tell(): void {
    const saving = this.failing ? "unsaved" : this.waiting ? "saving" : "saved";
    this.state = { saving, conflicts: this.conflicts };
    this.listeners.forEach((listener) => listener());
  }
}

/** What segments say, as people compare it. */
export function said(segments: readonly { readonly text: string; readonly struck?: boolean }[]): string {
  return tidy(segments.map(({ text, struck }) => (struck ? "" : text.trim())).join(" "));
}
