import { expect, it } from "vitest";

import { clock, duration } from "./words";

it.each([[0, "0:00"], [10.499, "0:10"], [10.999, "0:11"], [59.5, "1:00"], [3599.5, "1:00:00"], [36_061, "10:01:01"]])(
  "writes a length to the nearest second, as the command line does: %d",
  (seconds, text) => expect(clock(seconds)).toBe(text),
);

it.each([[10.999, "11 s"], [59.6, "1 min"], [182, "3 min 2 s"], [3599, "1 h 0 min"], [7199, "2 h 0 min"], [36_300, "10 h 5 min"]])(
  "says how long something is without sixty minutes in an hour: %d",
  (seconds, text) => expect(duration(seconds)).toBe(text),
);
