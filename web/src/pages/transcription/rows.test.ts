import { describe, expect, it } from "vitest";

import type { JobView } from "../../api/schema";
import { doubtsOf, find, type Hole, holesOf, plainText, rowAt, type Segment, toRows, wordAt, wordAtPlace } from "./rows";

const segment = (start: number, text: string, probability = 0.9): Segment => {
  const spoken = text.split(" ");
  const words = spoken.map((word, index) => ({ start: start + index, end: start + index + 0.9, text: ` ${word}`, probability }));
  return { start, end: start + spoken.length, text: ` ${text}`, words };
};
const hole = (start: number, end: number): Hole => ({ kind: "hole", start, end, state: "missing", said: "no worker" });
const job = (position: number, state: JobView["state"], attempts: Partial<NonNullable<JobView["attempts"]>[number]>[] = []) =>
  ({
    id: `x.${position}`,
    kind: "transcribe",
    position,
    state,
    start_seconds: position * 30,
    end_seconds: position * 30 + 30,
    charged_attempts: 0,
    attempts,
  }) as unknown as JobView;
const cutting = { ...job(0, "running"), kind: "chunk" } as JobView;

describe("rows", () => {
  it("puts segments that follow each other into one paragraph, with each word where it stands", () => {
    const [row] = toRows([segment(0, "one two"), segment(2, "three two")], []);
    expect(row?.kind === "text" && row.text).toBe("one two three two");
    const words = row?.kind === "text" ? row.words.map(({ from, to }) => row.text.slice(from, to)) : [];
    expect(words).toEqual(["one", "two", "three", "two"]);
  });

  it("begins a paragraph after a pause, and after a sentence when it has grown long", () => {
    expect(toRows([segment(0, "one"), segment(9, "two")], [])).toHaveLength(2);
    const sentences = Array.from({ length: 60 }, (_, index) => segment(index * 3, "some spoken words."));
    const rows = toRows(sentences, []);
    expect(rows.length).toBeGreaterThan(1);
    expect(rows.every((row) => row.kind === "text" && row.text.length < 720 && row.text.endsWith("."))).toBe(true);
    expect(plainText(rows).split(/\s+/)).toHaveLength(180);
  });

  it("shows what is missing where it is missing", () => {
    const rows = toRows([segment(0, "one"), segment(30, "two")], [hole(1, 30), hole(31, 60)]);
    expect(rows.map(({ kind }) => kind)).toEqual(["text", "hole", "text", "hole"]);
  });

  it("writes languages without spaces without them", () => {
    const rows = toRows([{ start: 0, end: 1, text: "こんにちは" }, { start: 1, end: 2, text: "世界" }] as Segment[], []);
    expect(plainText(rows)).toBe("こんにちは世界");
  });

  it("finds the word of a time and of a place", () => {
    const rows = toRows([segment(0, "one two three")], []);
    const words = rows[0]?.kind === "text" ? rows[0].words : [];
    expect(wordAt(words, 1.5)?.from).toBe(4);
    expect(wordAt(words, 0.99)?.from).toBe(4); // players round
    expect(wordAtPlace(words, 5)?.start).toBe(1);
    expect(wordAtPlace(words, 100)?.start).toBe(2);
    expect(rowAt(rows, 1000)).toBe(0);
  });

  it("steps through doubtful words, neighbours together, and missing parts", () => {
    const rows = toRows([segment(0, "sure"), segment(1, "very doubtful", 0.2), segment(3, "sure")], [hole(4, 9)]);
    expect(doubtsOf(rows).map(({ text }) => text)).toEqual(["very doubtful", null]);
  });

  it("finds text whatever the capitals", () => {
    expect(find(toRows([segment(0, "Apple apple")], []), "aPPle").map(({ from }) => from)).toEqual([0, 6]);
    expect(find([], " ")).toEqual([]);
  });
});

describe("holes of a running transcription", () => {
  it("shows no hole for the listening copy that is being made", () => {
    const copy = { ...job(0, "running", [{ state: "live", worker_name: "studio" }]), kind: "peaks", end_seconds: 0 } as JobView;
    expect(holesOf([copy, job(0, "done")], 30)).toEqual([]);
  });

  it("names the worker of a part, and joins parts that are alike", () => {
    const live = [{ state: "live", worker_id: "w", worker_name: "attic" }] as never;
    const holes = holesOf([cutting, job(0, "done"), job(1, "running", live), job(2, "running", live), job(3, "queued")], 200);
    expect(holes.map(({ start, end, state, said }) => [start, end, state, said])).toEqual([
      [30, 90, "running", "attic"],
      [90, 120, "waiting", ""],
      [120, 200, "cutting", ""],
    ]);
  });

  it("waits for a worker where nobody cuts yet, however long the recording is", () => {
    const queued = { ...cutting, state: "queued" } as JobView;
    expect(holesOf([queued], null)).toEqual([{ kind: "hole", start: 0, end: 0, state: "waiting", said: "" }]);
    expect(holesOf([queued, job(0, "queued")], 200)).toEqual([{ kind: "hole", start: 0, end: 200, state: "waiting", said: "" }]);
  });

  it("says why a part is missing for good", () => {
    const failed = [{ state: "failed", error_code: "not_audio", error_message: "The file is broken here." }] as never;
    expect(holesOf([job(0, "failed", failed)], 30)[0]).toMatchObject({ state: "missing", said: "not_audio: The file is broken here." });
  });
});
