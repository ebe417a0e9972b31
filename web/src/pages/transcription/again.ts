// What a recording that is recognised again keeps of how it was asked for.
import type { TranscriptionView } from "../../api/schema";

type Options = TranscriptionView["options"];

/** How many speakers somebody said there are; 0 where nobody did, or not exactly. */
export const speakersOf = ({ min_speakers: least, max_speakers: most }: Options): number => (least && least === most ? least : 0);

/** The bounds of their number, where they differ. */
export function boundsOf({ min_speakers: least, max_speakers: most }: Options): string | null {
  return least === most ? null : `${least ?? 1} – ${most ?? "…"}`;
}

/** What is about how the recording is heard; about its speakers too, where `speakers` of them are to be told apart.
 * Null is where they are not. Another number takes the place of bounds. */
export function kept(options: Options, speakers: number | null): object {
  const { channel, track, raw, engine, model, word_timestamps, speaker_model, min_speakers, max_speakers } = options;
  const heard = { channel, track, raw, engine, model, word_timestamps };
  if (speakers === null) return heard;
  return { ...heard, speaker_model, ...(speakers === speakersOf(options) ? { min_speakers, max_speakers } : {}) };
}
