// The text of a running transcription: chunks that are done, wherever they are, fetched as they come.
// The server gives the chunks after a place up to the first that is not done; one request for each such run.
import type { JobView } from "../../api/schema";
import type { Segment } from "./rows";

export interface Page {
  readonly segments: readonly Segment[];
  readonly next: number;
}

/** Of the positions that are done and not had yet: the first of each run, in order. */
export function runStarts(done: readonly number[], had: ReadonlySet<number>): number[] {
  const all = new Set(done);
  return done.filter((position) => !had.has(position) && (had.has(position - 1) || !all.has(position - 1)));
}

interface Had {
  readonly first: number;
  readonly last: number;
  readonly segments: readonly Segment[];
}

export class Runs {
  private pages: Had[] = [];

  constructor(private readonly fetch: (after: number) => Promise<Page>) {}

  /** Fetch what is done and not had yet; true if there is something new. */
  async update(jobs: readonly JobView[]): Promise<boolean> {
    const done = jobs.filter((job) => job.kind === "transcribe" && job.state === "done").map((job) => job.position);
    let changed = this.forget(new Set(done));
    for (let starts = this.starts(done); starts.length; starts = this.starts(done)) {
      for (const first of starts) {
        const { next: last, segments } = await this.fetch(first - 1);
        if (last < first) return changed; // not done any more: it comes with the next look
        this.pages = this.pages.filter((page) => page.first > last || page.last < first);
        this.pages.push({ first, last, segments });
        changed = true;
      }
    }
    return changed;
  }

  /** What is to be done again is not shown. */
  private forget(done: ReadonlySet<number>): boolean {
    const before = this.pages.length;
    this.pages = this.pages.filter(({ first, last }) => {
      for (let position = first; position <= last; position++) if (!done.has(position)) return false;
      return true;
    });
    return this.pages.length < before;
  }

  private starts(done: readonly number[]): number[] {
    const had = new Set<number>();
    for (const { first, last } of this.pages) for (let position = first; position <= last; position++) had.add(position);
    return runStarts(done, had);
  }

  get segments(): Segment[] {
    return this.pages.flatMap(({ segments }) => segments).sort((a, b) => a.start - b.start);
  }
}
