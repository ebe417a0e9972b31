import { describe, expect, it } from "vitest";

import { ApiError } from "../../api/client";
import type { EditsView, NewEdit } from "../../api/schema";
import { Corrections, type Farm, type Text } from "./corrections";
import { patchOf, type Segment, sent } from "./segments";

const segment = (start: number, text: string): Segment => ({ start, end: start + 1, text: ` ${text}`, words: [] });
const view = (number: number, at: number, text: string): EditsView =>
  ({ number, changes: [{ at, removed: 1, segments: [segment(at, text)] }], versions: [] }) as unknown as EditsView;

function farm(send: (edit: NewEdit, tries: number) => EditsView, since: (number: number) => EditsView = (number) => ({ number, changes: [] }) as never) {
  let text: Text = { segments: [segment(0, "a"), segment(1, "b")], number: 0 };
  const sentEdits: NewEdit[] = [];
  const refused: string[] = [];
  const made: Farm = {
    send: async (edit) => {
      sentEdits.push(edit);
      return send(edit, sentEdits.length);
    },
    since: async (number) => since(number),
    text: () => text,
    show: (now) => (text = now),
    refuse: (error) => refused.push(error.code),
  };
  return { made, sentEdits, refused, said: () => text.segments.map((one) => one.text.trim()).join("|"), number: () => text.number };
}

const patch = (text: string) => patchOf([segment(0, "a")], 0, 1, [sent(segment(0, text))]);
const conflict = (number: number, text: string) =>
  new ApiError(409, "edit_conflict", "changed", { number, passages: [{ segments: [segment(0, text)] }] });

describe("corrections", () => {
  it("are sent one after the other, each based on the one before", async () => {
    const { made, sentEdits, said } = farm((edit) => view(edit.based_on + 1, edit.based_on, `x${edit.based_on}`));
    const corrections = new Corrections(made);
    const both = Promise.all([corrections.patch(patch("x")), corrections.patch(patch("y"))]);
    expect(corrections.snapshot().saving).toBe("saving");
    expect(await both).toEqual([true, true]);
    expect(sentEdits.map(({ based_on }) => based_on)).toEqual([0, 1]);
    expect(said()).toBe("x0|x1");
    expect(corrections.snapshot().saving).toBe("saved");
  });

  it("are sent again until they arrive, and say that they have not", async () => {
    const seen: string[] = [];
    const { made, said } = farm((_, tries) => {
      if (tries < 4) throw tries === 2 ? new ApiError(503, "store_unavailable", "busy") : new TypeError("no connection");
      return view(1, 0, "x");
    });
    const corrections: Corrections = new Corrections(made, async (ms) => void seen.push(`${corrections.snapshot().saving} ${ms}`));
    expect(await corrections.patch(patch("x"))).toBe(true);
    expect(seen).toEqual(["unsaved 1000", "unsaved 2000", "unsaved 4000"]);
    expect(said()).toBe("x|b");
  });

  it("keep both texts when somebody else was faster, and send the own one again if it is chosen", async () => {
    const { made, said, sentEdits } = farm(
      (edit) => {
        if (edit.based_on === 0) throw conflict(1, "theirs");
        return view(2, 0, "mine");
      },
      (from) => (from === 0 ? view(1, 0, "theirs") : ({ number: from, changes: [] } as never)),
    );
    const corrections = new Corrections(made);
    expect(await corrections.patch(patch("mine"))).toBe(false);
    expect(said()).toBe("theirs|b");
    const [one] = corrections.snapshot().conflicts;
    expect([one?.theirs, one?.mine.segments?.[0]?.text]).toEqual(["theirs", "mine"]);
    if (one) corrections.settle(one, true);
    await corrections.follow();
    expect(sentEdits.at(-1)?.based_on).toBe(1);
    expect(said()).toBe("mine|b");
    expect(corrections.snapshot().conflicts).toEqual([]);
  });

  it("are no conflict with themselves when only the answer was lost", async () => {
    const { made } = farm(
      () => {
        throw conflict(1, "mine");
      },
      () => view(1, 0, "mine"),
    );
    const corrections = new Corrections(made);
    expect(await corrections.patch(patch("mine"))).toBe(true);
    expect(corrections.snapshot().conflicts).toEqual([]);
  });

  it("that cannot be are refused aloud, and do not hold up the next one", async () => {
    const { made, refused, said } = farm((edit) => {
      if (edit.reverse) throw new ApiError(409, "wrong_state", "undone already");
      return view(1, 0, "x");
    });
    const corrections = new Corrections(made);
    expect(await corrections.change({ reverse: 7 })).toBe(false);
    expect(refused).toEqual(["wrong_state"]);
    expect(await corrections.patch(patch("x"))).toBe(true);
    expect(said()).toBe("x|b");
  });

  it("based on an older text ask for everything that is new", async () => {
    const { made, said, number } = farm(
      () => view(5, 0, "ignored"),
      (from) => (from === 0 ? view(3, 1, "others") : view(5, 0, "mine")),
    );
    const corrections = new Corrections(made);
    await corrections.follow();
    await corrections.patch(patch("mine"), 0);
    expect([said(), number()]).toEqual(["mine|others", 5]);
  });
});
