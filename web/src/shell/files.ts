// Where transcripts are as files: one alone, several as a ZIP file; how long the lines of subtitles are.
import { useLocalStorage } from "@mantine/hooks";

/** Characters in a line of a subtitle: any number, as podcasts have it, as television, one line. */
export const LETTERS = [0, 32, 42, 65] as const;
/** Transcriptions that go into one ZIP file. */
export const MOST_PACKED = 100;

/** What this browser has chosen. */
export function useLetters(): [number, (letters: number) => void] {
  const [letters, setLetters] = useLocalStorage<number>({ key: "subtitle-letters", defaultValue: 0, getInitialValueInEffect: false });
  return [LETTERS.find((one) => one === letters) ?? 0, setLetters];
}

export function filesPath([first = "", ...also]: readonly string[], formats: readonly string[], letters: number): string {
  const query = new URLSearchParams([
    ...formats.map((format) => ["format", format]),
    ...also.map((id) => ["also", id]),
    ...(letters ? [["max_line_width", String(letters)], ["max_line_count", "2"]] : []),
  ]);
  return `api/transcriptions/${first}/transcript${formats.length + also.length > 1 ? "s" : ""}?${query}`;
}
