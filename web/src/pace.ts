// How fast a transcription goes of late. The time before its first words does not count: a model is loaded then.

interface Sample {
  readonly at: number;
  readonly done: number;
}

const WINDOW_SECONDS = 60;
const FEWEST = 8; // samples that a pace is taken from, where there have been so many
const seen = new Map<string, Sample[]>();

/** Audio-seconds done a second; null before there is anything to tell it from. `done` is what is done `now`. */
export function paceOf(id: string, done: number, now: number): number | null {
  const samples = seen.get(id) ?? [];
  seen.set(id, samples);
  const last = samples.at(-1);
  if (last && done < last.done) samples.length = 0; // it was begun anew
  if (done > (samples.at(-1)?.done ?? 0)) samples.push({ at: now, done });
  while (samples.length > FEWEST && now - (samples[0]?.at ?? now) > WINDOW_SECONDS) samples.shift();
  const [first, newest] = [samples[0], samples.at(-1)];
  return first && newest && newest !== first ? (newest.done - first.done) / Math.max(now - first.at, 0.1) : null;
}
