import { expect, it } from "vitest";

import { paceOf } from "./pace";

it("does not count the time in which a model is loaded", () => {
  expect(paceOf("slow to load", 0, 0)).toBeNull();
  expect(paceOf("slow to load", 30, 100)).toBeNull();
  expect(paceOf("slow to load", 60, 110)).toBe(3);
  expect(paceOf("slow to load", 60, 120)).toBe(1.5);
});

it("is of the last minute", () => {
  for (let second = 0; second <= 100; second++) paceOf("slower", second < 40 ? 1 + second * 10 : 391 + (second - 39), second);
  expect(paceOf("slower", 452, 100)).toBeCloseTo(1, 1);
});

it("begins anew where a transcription does", () => {
  paceOf("again", 30, 0);
  paceOf("again", 60, 10);
  expect(paceOf("again", 0, 20)).toBeNull();
});
