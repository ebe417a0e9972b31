// The rows of the reader: paragraphs of text, and the parts that are missing, in the order of time.
// Pure: from segments and holes to rows, from a time to a word, from a place in the text to a word.
import type { JobView } from "../../api/schema";
import { joined, placed, type Segment, textOf } from "./segments";

export type { Segment };

/** A word in its paragraph: seconds, and where its letters are. */
export interface PlacedWord {
  readonly start: number;
  readonly end: number;
  readonly from: number;
  readonly to: number;
  readonly probability: number | null;
}

export interface Paragraph {
  readonly kind: "text";
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly words: readonly PlacedWord[];
  readonly speaker: string | null;
  /** Whether somebody else spoke before. */
  readonly begins: boolean;
  readonly pieces: readonly Piece[];
}

/** A segment in its paragraph: its number in the text, and where its letters are. */
export interface Piece {
  readonly segment: Segment;
  readonly index: number;
  readonly from: number;
  readonly to: number;
}

/** A part without text: not done yet, or missing for good. */
export interface Hole {
  readonly kind: "hole";
  readonly start: number;
  readonly end: number;
  readonly state: "waiting" | "running" | "cutting" | "missing";
  /** Who is at it, or why it is missing. */
  readonly said: string;
}

export type Row = Paragraph | Hole;

const PAUSE_SECONDS = 1.5;
const LETTERS = 420;
const MOST_LETTERS = 700;
const TOLERANCE_SECONDS = 0.05;
const ROUNDING_SECONDS = 0.02;
export const DOUBTFUL = 0.5;

/** `kept` are where paragraphs began before: while somebody edits, they go on beginning there. */
export function toRows(segments: readonly Segment[], holes: readonly Hole[], kept: ReadonlySet<number> | null = null): Row[] {
  const rows: Row[] = [];
  let open: Builder | null = null;
  let next = 0;
  let before: string | null = null;
  const close = () => {
    if (!open) return;
    rows.push(open.paragraph(before));
    before = open.speaker;
    open = null;
  };
  for (const [index, segment] of segments.entries()) {
    for (let hole = holes[next]; hole && hole.start <= segment.start + TOLERANCE_SECONDS; hole = holes[++next]) {
      close();
      rows.push(hole);
    }
    if (!segment.text.trim()) continue;
    if (open && !(open as Builder).takes(segment, kept)) close();
    open ??= new Builder(segment.start, segment.speaker ?? null);
    open.add(segment, index);
  }
  close();
  rows.push(...holes.slice(next));
  return rows;
}

class Builder {
  private text = "";
  private words: PlacedWord[] = [];
  private pieces: Piece[] = [];
  private end: number;

  constructor(private readonly start: number, readonly speaker: string | null) {
    this.end = start;
  }

  takes(segment: Segment, kept: ReadonlySet<number> | null): boolean {
    if (segment.start - this.end > PAUSE_SECONDS || (segment.speaker ?? null) !== this.speaker) return false;
    if (kept) return !kept.has(segment.start);
    const ends = /[.!?…。！？]["'”’»)]*$/.test(this.text);
    return this.text.length < LETTERS || (!ends && this.text.length < MOST_LETTERS);
  }

  add(segment: Segment, index: number): void {
    const text = textOf(segment);
    this.text = joined(this.text, text);
    const before = this.text.length - text.length;
    this.end = Math.max(this.end, segment.end);
    this.pieces.push({ segment, index, from: before, to: this.text.length });
    for (const word of placed(segment, before)) this.words.push(word);
  }

  paragraph(before: string | null): Paragraph {
    const { start, end, text, words, speaker, pieces } = this;
    return { kind: "text", start, end, text, words, speaker, begins: speaker !== null && speaker !== before, pieces };
  }
}

/** What one speaker says; everything where nobody has that name. */
export function saidBy(rows: readonly Row[], speaker: string | null): readonly Row[] {
  const found = speaker === null ? [] : rows.filter((row) => row.kind === "text" && row.speaker === speaker);
  return found.length ? found : rows;
}

/** Neighbours that say the same become one. */
export function merged(holes: readonly Hole[]): Hole[] {
  const found: Hole[] = [];
  for (const hole of holes) {
    const last = found.at(-1);
    if (last && last.state === hole.state && last.said === hole.said && hole.start - last.end < TOLERANCE_SECONDS) {
      found[found.length - 1] = { ...last, end: hole.end };
    } else found.push(hole);
  }
  return found;
}

/** What is missing while a transcription runs, from its jobs: in order of time. */
export function holesOf(jobs: readonly JobView[], whole: number | null): Hole[] {
  const holes: Hole[] = [];
  let cut = 0;
  let cutting: "cutting" | "waiting" | null = null;
  for (const job of jobs) {
    if (job.kind === "chunk") {
      cutting = job.state === "running" ? "cutting" : job.state === "queued" ? "waiting" : null;
      continue;
    }
    if (job.kind !== "transcribe") continue; // the listening copy is no part of the text
    cut = Math.max(cut, job.end_seconds);
    if (job.state === "done") continue;
    const at = { kind: "hole" as const, start: job.start_seconds, end: job.end_seconds };
    const live = job.attempts?.filter(({ state }) => state === "live") ?? [];
    if (job.state === "failed" || job.state === "cancelled") {
      const last = job.attempts?.findLast(({ error_message }) => error_message);
      holes.push({ ...at, state: "missing", said: last ? `${last.error_code}: ${last.error_message}` : job.state });
    } else if (live.length) {
      const names = live.map(({ worker_name, worker_id }) => worker_name ?? worker_id);
      holes.push({ ...at, state: "running", said: [...new Set(names)].join(", ") });
    } else holes.push({ ...at, state: "waiting", said: "" });
  }
  if (cutting && (whole === null || whole > cut + TOLERANCE_SECONDS)) {
    holes.push({ kind: "hole", start: cut, end: Math.max(whole ?? cut, cut), state: cutting, said: "" });
  }
  return merged(holes);
}

/** The last row that begins at or before a time; 0 if none does. */
export function rowAt(rows: readonly Row[], seconds: number): number {
  return Math.max(0, lastAtOrBefore(rows, seconds + ROUNDING_SECONDS));
}

/** The word that is spoken at a time, or was last. Players round: what they call the start of a word may be just before. */
export function wordAt(words: readonly PlacedWord[], seconds: number): PlacedWord | undefined {
  return words[lastAtOrBefore(words, seconds + ROUNDING_SECONDS)];
}

/** The word at a place in the text, or the nearest before it. */
export function wordAtPlace(words: readonly PlacedWord[], offset: number): PlacedWord | undefined {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((words[middle]?.from ?? Infinity) <= offset) low = middle + 1;
    else high = middle;
  }
  return words[Math.max(0, low - 1)];
}

function lastAtOrBefore(list: readonly { readonly start: number }[], seconds: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle]?.start ?? Infinity) <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export interface Doubt {
  readonly row: number;
  readonly start: number;
  readonly end: number;
  /** The letters in question; null for a missing part. */
  readonly text: string | null;
  readonly from: number;
  readonly to: number;
}

/** Words of low probability, neighbours together, and the missing parts. */
export function doubtsOf(rows: readonly Row[]): Doubt[] {
  return rows.flatMap((row, index): Doubt[] => {
    if (row.kind === "hole") {
      return row.state === "missing" ? [{ row: index, start: row.start, end: row.end, text: null, from: 0, to: 0 }] : [];
    }
    const found: Doubt[] = [];
    let before = false;
    for (const word of row.words) {
      const doubtful = word.probability !== null && word.probability < DOUBTFUL;
      const last = found.at(-1);
      if (doubtful && before && last) {
        found[found.length - 1] = { ...last, end: word.end, to: word.to, text: row.text.slice(last.from, word.to) };
      } else if (doubtful) {
        const { start, end, from, to } = word;
        found.push({ row: index, start, end, from, to, text: row.text.slice(from, to) });
      }
      before = doubtful;
    }
    return found;
  });
}

export interface Match {
  readonly row: number;
  readonly from: number;
  readonly to: number;
}

/** Where a text stands; capitals do not matter. */
export function find(rows: readonly Row[], wanted: string): Match[] {
  const needle = wanted.trim().toLowerCase();
  if (!needle) return [];
  return rows.flatMap((row, index) => {
    if (row.kind === "hole") return [];
    const text = row.text.toLowerCase();
    const found: Match[] = [];
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + needle.length)) {
      found.push({ row: index, from: at, to: at + needle.length });
    }
    return found;
  });
}

/** The text as the files have it: without what is struck out, and with the names of speakers. */
export function plainText(rows: readonly Row[]): string {
  const said = rows.flatMap((row) => {
    if (row.kind === "hole") return [];
    const text = row.pieces.reduce((all, { segment }) => (segment.struck ? all : joined(all, textOf(segment))), "");
    return text ? [row.begins ? `${row.speaker}: ${text}` : text] : [];
  });
  return said.join("\n\n");
}

/** The piece of a paragraph at a letter. */
export function pieceAt(row: Paragraph, offset: number): Piece | undefined {
  return row.pieces.findLast(({ from }) => from <= offset) ?? row.pieces[0];
}

/** The piece that a match lies in; undefined if it goes over two, or is struck out. */
export function wholeIn(rows: readonly Row[], match: Match): Piece | undefined {
  const row = rows[match.row];
  if (row?.kind !== "text") return undefined;
  return row.pieces.find(({ from, to, segment }) => from <= match.from && match.to <= to && !segment.struck);
}
