import { expect, it } from "vitest";

import { joinCommand, onlyHere, systems } from "./joining";
import { actionsOf, oneMore } from "./machines";

it("a machine is asked for nothing that its state rules out", () => {
  expect(actionsOf({ state: "working", ended_at: null })).toEqual(["drain", "stop", "destroy"]);
  expect(actionsOf({ state: "stopped", ended_at: null })).toEqual(["start", "destroy"]);
  expect(actionsOf({ state: "draining", ended_at: null })).toEqual(["stop", "destroy"]);
  expect(actionsOf({ state: "gone", ended_at: 5 })).toEqual([]);
});

it("one more machine is one more than are there, and never more than the maximum", () => {
  expect(oneMore({ fixed: null, counted: 2, maximum: 4 })).toBe(3);
  expect(oneMore({ fixed: 3, counted: 1, maximum: 4 })).toBe(4);
  expect(oneMore({ fixed: null, counted: 4, maximum: 4 })).toBeNull();
});

it("the line to copy names the server and the code, on every system", () => {
  for (const system of systems) {
    expect(joinCommand(system, "https://farm.example.org", "ABCDE-FGH23")).toMatch(
      / worker --server https:\/\/farm\.example\.org --join ABCDE-FGH23$/,
    );
  }
});

it("an address of this machine alone is told from one that others reach", () => {
  expect(["http://127.0.0.1:8000", "http://localhost/farm", "http://[::1]:8000"].every(onlyHere)).toBe(true);
  expect(["http://192.168.1.5:8000", "https://farm.example.org", "http://localhost.example.org"].some(onlyHere)).toBe(false);
});
