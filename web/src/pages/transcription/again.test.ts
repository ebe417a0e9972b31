import { expect, test } from "vitest";

import type { TranscriptionView } from "../../api/schema";
import { boundsOf, kept, speakersOf } from "./again";

const options = (more: object) => ({ engine: "tones", model: "instant", channel: "mix", ...more }) as TranscriptionView["options"];
const BETWEEN = options({ diarize: true, min_speakers: 2, max_speakers: 3, speaker_model: "/voices.onnx" });

test("the speaker model and bounds that differ are kept", () => {
  expect(speakersOf(BETWEEN)).toBe(0);
  expect(boundsOf(BETWEEN)).toBe("2 – 3");
  expect(kept(BETWEEN, 0)).toMatchObject({ min_speakers: 2, max_speakers: 3, speaker_model: "/voices.onnx", channel: "mix" });
});

test("another number takes the place of the bounds, and the speaker model stays", () => {
  expect(kept(BETWEEN, 4)).toMatchObject({ speaker_model: "/voices.onnx" });
  expect(kept(BETWEEN, 4)).not.toHaveProperty("min_speakers");
  const four = options({ diarize: true, min_speakers: 4, max_speakers: 4 });
  expect([speakersOf(four), boundsOf(four)]).toEqual([4, null]);
  expect(kept(four, 0)).not.toHaveProperty("max_speakers");
});

test("nothing about speakers is kept where they are not told apart", () => {
  expect(Object.keys(kept(BETWEEN, null)).filter((name) => name.includes("speaker"))).toEqual([]);
});
