import { expect, it } from "vitest";

import { filesPath } from "./files";

it("gives one file alone, more as a ZIP file, and lines as long as they were chosen", () => {
  expect(filesPath(["a"], ["srt"], 0)).toBe("api/transcriptions/a/transcript?format=srt");
  expect(filesPath(["a"], ["srt", "csv"], 42)).toBe(
    "api/transcriptions/a/transcripts?format=srt&format=csv&max_line_width=42&max_line_count=2",
  );
  expect(filesPath(["a", "b", "c"], ["csv"], 0)).toBe("api/transcriptions/a/transcripts?format=csv&also=b&also=c");
});
