// What is done with segments: taken apart, put together, measured. Pure; times are seconds.
import type { NewSegment, SegmentPage } from "../../api/schema";

export type Segment = Omit<SegmentPage["segments"][number], "struck"> & { readonly struck?: boolean };
export interface Change {
  readonly at: number;
  readonly removed: number;
  readonly segments: readonly Segment[];
}
export type { NewSegment };

/** Letters of languages that are written without spaces. */
const UNSPACED = /[\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]$/;
const SHORTEST_SECONDS = 0.05;

export const tidy = (text: string): string => text.trim().split(/\s+/).join(" ");
export const textOf = (segment: Pick<Segment, "text">): string => segment.text.trim();
/** Two texts, one after the other. */
export const joined = (one: string, other: string): string =>
  !one || !other || UNSPACED.test(one) ? one + other : `${one} ${other}`;

/** What a client sends of a segment: its words are found by the server. */
export function sent(segment: Segment, change: Partial<NewSegment> = {}): NewSegment {
  const { start, end, speaker, struck } = segment;
  return { start, end, text: textOf(segment), speaker: speaker ?? null, struck: struck ?? false, ...change };
}

/** A text after changes; their places are those of the text before. */
export function changed(segments: readonly Segment[], changes: readonly Change[]): Segment[] {
  const found: Segment[] = [];
  let at = 0;
  for (const change of changes) {
    found.push(...segments.slice(at, change.at), ...change.segments);
    at = change.at + change.removed;
  }
  return [...found, ...segments.slice(at)];
}

export interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly segments: readonly NewSegment[] | null;
  /** Only what they say, where others speak at the same time. */
  readonly speakers?: (string | null)[] | null;
}

/** So many segments before and after may overlap one, where several people speak at once. */
const NEAR = 50;
const speakerOf = (segment: Segment | undefined): string | null => segment?.speaker ?? null;

/** A patch that puts others in the place of some segments. It takes with it what no patch could tell apart from them. */
export function patchOf(all: readonly Segment[], from: number, to: number, segments: readonly NewSegment[] | null): Stretch {
  let [first, last] = [from, to];
  const end = () => all.slice(first, last).reduce((most, one) => Math.max(most, one.end), 0);
  const begin = () => all[first]?.start ?? 0;
  const mine = () => new Set(all.slice(first, last).map(speakerOf));
  const goesOn = () => (all[last]?.start ?? Infinity) < end() && mine().has(speakerOf(all[last]));
  while (last < all.length && (end() <= begin() || goesOn())) last++;
  while (first > 0 && end() <= begin()) first--;
  const stretch = { start: begin(), end: end() };
  const around = [...all.slice(Math.max(0, first - NEAR), first), ...all.slice(last, last + NEAR)];
  const alone = around.every((one) => one.end <= stretch.start || one.start >= stretch.end);
  const speakers = alone ? null : [...mine()];
  if (segments === null) return { ...stretch, segments, speakers };
  const before = all.slice(first, from).map((one) => sent(one));
  const after = all.slice(to, last).map((one) => sent(one));
  return { ...stretch, segments: [...before, ...segments, ...after], speakers };
}

interface Placed {
  readonly start: number;
  readonly end: number;
  readonly from: number;
  readonly to: number;
  readonly probability: number | null;
}

/** What was found before: a change makes one segment anew, and of ten hours all others stay as they are. */
const known = new WeakMap<Segment, { readonly begins: number; readonly found: readonly Placed[] }>();

/** Where each word of a segment stands in its text, which begins at a place. */
export function placed(segment: Segment, begins = 0): readonly Placed[] {
  const before = known.get(segment);
  if (before?.begins === begins) return before.found;
  const found = placedAnew(segment, begins);
  known.set(segment, { begins, found });
  return found;
}

function placedAnew(segment: Segment, begins: number): Placed[] {
  const text = textOf(segment);
  const found: Placed[] = [];
  let reached = 0;
  for (const word of segment.words ?? []) {
    const letters = word.text.trim();
    const from = letters ? text.indexOf(letters, reached) : -1;
    if (from < 0) continue;
    reached = from + letters.length;
    found.push({ from: begins + from, to: begins + reached, start: word.start, end: word.end, probability: word.probability ?? null });
  }
  return found;
}

/** The place nearest to a letter where a text may be parted: beside a word, or where there are no words at a space. */
export function boundary(segment: Segment, offset: number): number {
  const text = textOf(segment);
  const words = placed(segment);
  const places = words.length ? words.map(({ from }) => from) : [...text.matchAll(/\S+/g)].map(({ index }) => index);
  const inside = [...places, text.length].filter((place) => place > 0);
  return inside.reduce((best, place) => (Math.abs(place - offset) < Math.abs(best - offset) ? place : best), text.length);
}

/** When a text is at a place: between the words beside it. */
export function timeAt(segment: Segment, place: number): number {
  const words = placed(segment);
  const { start, end } = segment;
  const before = words.filter(({ to }) => to <= place).at(-1);
  const after = words.find(({ from }) => from >= place);
  const length = Math.max(1, textOf(segment).length);
  const time = before && after ? (before.end + after.start) / 2 : start + ((end - start) * place) / length;
  return Math.min(end, Math.max(start, time));
}

/** The two halves of a segment, parted at a place of its text; null where there is nothing to part. */
export function split(segment: Segment, place: number): [NewSegment, NewSegment] | null {
  const text = textOf(segment);
  const [left, right] = [text.slice(0, place).trim(), text.slice(place).trim()];
  const time = timeAt(segment, place);
  if (!left || !right || time - segment.start < SHORTEST_SECONDS || segment.end - time < SHORTEST_SECONDS) return null;
  return [sent(segment, { end: time, text: left }), sent(segment, { start: time, text: right })];
}

/** A segment of which some letters are struck out, or none any more. */
export function struckOut(segment: Segment, from: number, to: number): NewSegment[] {
  const text = textOf(segment);
  if (segment.struck || from === to || (from === 0 && to === text.length)) return [sent(segment, { struck: !segment.struck })];
  const [begin, end] = [from === 0 ? 0 : boundary(segment, from), to >= text.length ? text.length : boundary(segment, to)];
  if (begin >= end) return [sent(segment, { struck: true })];
  const bounds = [...new Set([0, begin, end, text.length])];
  return bounds.slice(1).map((until, index) => {
    const at = bounds[index] ?? 0;
    return sent(segment, {
      start: at === 0 ? segment.start : timeAt(segment, at),
      end: until === text.length ? segment.end : timeAt(segment, until),
      text: text.slice(at, until).trim(),
      struck: at >= begin && until <= end,
    });
  });
}

export function merged(one: Segment, other: Segment): NewSegment {
  return sent(one, { end: other.end, text: joined(textOf(one), textOf(other)) });
}

/** How many times a text stands in segments, whatever its capitals: what replacing it everywhere changes. */
export function count(segments: readonly Segment[], wanted: string): number {
  const needle = wanted.trim().toLowerCase();
  if (!needle) return 0;
  return segments.reduce((sum, one) => sum + (one.struck ? 0 : textOf(one).toLowerCase().split(needle).length - 1), 0);
}

export const MOST_PER_SECOND = 20;
export const LINES = 2;

/** How a segment reads as a subtitle, with so many letters in each of two lines. */
export function subtitle(segment: Segment, text: string, letters: number): { long: boolean; perSecond: number; fast: boolean } {
  const perSecond = text.length / Math.max(0.1, segment.end - segment.start);
  return { long: letters > 0 && !fits(text, letters), perSecond, fast: perSecond > MOST_PER_SECOND };
}

function fits(text: string, letters: number): boolean {
  let [lines, used] = [1, 0];
  for (const word of text.split(/\s+/)) {
    if (word.length > letters) return text.length <= letters * LINES; // languages without spaces may break anywhere
    if (used && used + 1 + word.length > letters) [lines, used] = [lines + 1, 0];
    used += (used ? 1 : 0) + word.length;
  }
  return lines <= LINES;
}

export interface Speaking {
  readonly name: string | null;
  readonly seconds: number;
  /** Where one hears the speaker well: the beginning of the longest segment. */
  readonly sample: number;
}

/** Who speaks how long, the longest first; null are those without a name. */
export function speakers(segments: readonly Segment[]): Speaking[] {
  const found = new Map<string | null, { seconds: number; sample: number; longest: number }>();
  for (const { speaker = null, start, end, struck } of segments) {
    if (struck) continue;
    const had = found.get(speaker) ?? { seconds: 0, sample: start, longest: 0 };
    had.seconds += end - start;
    if (end - start > had.longest) Object.assign(had, { sample: start, longest: end - start });
    found.set(speaker, had);
  }
  return [...found].map(([name, { seconds, sample }]) => ({ name, seconds, sample })).sort((a, b) => b.seconds - a.seconds);
}
