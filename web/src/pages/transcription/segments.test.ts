import { describe, expect, it } from "vitest";

import { toRows, plainText } from "./rows";
import { boundary, changed, count, merged, patchOf, type Segment, speakers, split, struckOut, subtitle, timeAt } from "./segments";

const said = (start: number, text: string, more: Partial<Segment> = {}): Segment => {
  const words = text.split(" ").map((word, n) => ({ start: start + n, end: start + n + 0.8, text: ` ${word}`, probability: 0.9 }));
  return { start, end: start + words.length, text: ` ${text}`, words, ...more } as Segment;
};
const short = (segments: readonly { start: number; end: number; text: string; struck?: boolean }[]) =>
  segments.map(({ start, end, text, struck }) => [start, end, text, struck]);

describe("segments", () => {
  it("are changed at the places of the text before", () => {
    const all = ["a", "b", "c", "d"].map((text, n) => said(n, text));
    const [x, y] = [said(7, "x"), said(8, "y")];
    const after = changed(all, [
      { at: 0, removed: 1, segments: [] },
      { at: 2, removed: 1, segments: [x, y] },
      { at: 4, removed: 0, segments: [x] },
    ]);
    expect(after.map(({ text }) => text)).toEqual([" b", " x", " y", " d", " x"]);
    expect(changed(all, [])).toEqual(all);
  });

  it("are parted between words, in the middle of the pause", () => {
    const segment = said(10, "one two three");
    expect(boundary(segment, 5)).toBe(4);
    expect(boundary(segment, 0)).toBe(4);
    expect(split(segment, 4)?.map(({ text, start, end }) => [text, start, end])).toEqual([
      ["one", 10, expect.closeTo(10.9)],
      ["two three", expect.closeTo(10.9), 13],
    ]);
    expect(split(segment, 13)).toBeNull();
    expect(split(segment, 0)).toBeNull();
  });

  it("without times of words are parted by their letters", () => {
    const segment = said(0, "aaaa bbbb", { words: [] });
    expect(timeAt(segment, boundary(segment, 5))).toBeCloseTo((2 * 5) / 9);
  });

  it("are struck out whole or in part, and back again", () => {
    const segment = said(0, "one two three");
    expect(short(struckOut(segment, 0, 0))).toEqual([[0, 3, "one two three", true]]);
    const parts = struckOut(segment, 4, 7);
    expect(parts.map(({ text, struck }) => [text, struck])).toEqual([["one", false], ["two", true], ["three", false]]);
    expect(parts.every((part, n) => part.start === (n ? parts[n - 1]?.end : 0))).toBe(true);
    expect(struckOut(segment, 8, 13).map(({ text, struck }) => [text, struck])).toEqual([["one two", false], ["three", true]]);
    expect(short(struckOut({ ...segment, struck: true }, 4, 7))).toEqual([[0, 3, "one two three", false]]);
  });

  it("are merged with a space where the language has them", () => {
    expect(merged(said(0, "one"), said(4, "two"))).toMatchObject({ start: 0, end: 5, text: "one two" });
    expect(merged(said(0, "世"), said(4, "界")).text).toBe("世界");
  });

  it("without a length take their neighbour with them into a patch", () => {
    const all = [said(0, "a"), { ...said(1, "ping"), end: 1 }, said(1, "b")];
    expect(patchOf(all, 0, 1, [])).toEqual({ start: 0, end: 1, segments: [], speakers: null });
    const patch = patchOf(all, 1, 2, []);
    expect([patch.start, patch.end, patch.segments?.map(({ text }) => text)]).toEqual([1, 2, ["b"]]);
  });

  it("of one speaker are changed without what another says at the same time", () => {
    const all = [said(0, "a b c d", { speaker: "A" }), said(1, "yes", { speaker: "B" }), said(4, "e", { speaker: "A" })];
    expect(patchOf(all, 0, 1, [])).toMatchObject({ start: 0, end: 4, speakers: ["A"] });
    expect(patchOf(all, 1, 2, [])).toMatchObject({ start: 1, end: 2, speakers: ["B"] });
    expect(patchOf(all, 2, 3, [])).toMatchObject({ start: 4, end: 5, speakers: null });
  });

  it("are measured as subtitles", () => {
    const segment = said(0, "one two three");
    expect(subtitle(segment, "one two three", 32)).toMatchObject({ long: false, fast: false });
    expect(subtitle(segment, "a".repeat(70), 32).fast).toBe(true);
    expect(subtitle(segment, "aaaa bbbb cccc", 5).long).toBe(true);
    expect(subtitle(segment, "aaaa bbbb cccc", 9).long).toBe(false);
    expect(subtitle(segment, "aaaa bbbb cccc", 0).long).toBe(false);
    expect(subtitle(segment, "世".repeat(20), 12).long).toBe(false);
  });

  it("say how often a text stands in them, and who speaks how long", () => {
    const all = [said(0, "Four fourteen", { speaker: "A" }), said(3, "four", { struck: true }), said(5, "four", { speaker: "B" })];
    expect(count(all, " FOUR")).toBe(3);
    expect(count(all, " ")).toBe(0);
    expect(speakers(all)).toEqual([{ name: "A", seconds: 2, sample: 0 }, { name: "B", seconds: 1, sample: 5 }]);
  });

  it("make paragraphs of one speaker, and a text without what is struck out", () => {
    const all = [said(0, "Hi", { speaker: "A" }), said(1, "there", { speaker: "A", struck: true }), said(2, "Yes", { speaker: "B" })];
    const rows = toRows(all, []);
    expect(rows.map((row) => row.kind === "text" && [row.speaker, row.begins, row.text])).toEqual([["A", true, "Hi there"], ["B", true, "Yes"]]);
    expect(plainText(rows)).toBe("A: Hi\n\nB: Yes");
  });

  it("stay in their paragraphs while they are edited", () => {
    const all = [said(0, "x".repeat(500)), said(1, "more"), said(2, "end")];
    expect(toRows(all, [], new Set([0, 2])).map((row) => row.start)).toEqual([0, 2]);
  });
});
