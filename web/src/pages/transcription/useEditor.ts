// Which segment is being corrected, and everything that its field needs of the page.
import { type KeyboardEvent, useMemo, useRef, useState } from "react";

import type { Corrections } from "./corrections";
import { type Doubts, pedals } from "./Keys";
import { rowAt, type Row, wordAt, pieceAt } from "./rows";
import type { Segment } from "./segments";
import type { Correcting } from "./useCorrections";
import type { Player } from "./usePlayer";

/** The segment that is being edited, and where the cursor is to be. */
export interface Active {
  readonly start: number;
  readonly caret: number;
}

export interface EditorHandle {
  readonly corrections: Corrections;
  readonly active: Active | null;
  readonly letters: number;
  open(active: Active | null): void;
  segments(): readonly Segment[];
  /** Somebody types: the sound waits. */
  typing(): void;
  play(seconds: number): void;
  again(start: number, end: number): void;
  /** What is written and not sent yet, to be sent before something else is done. */
  readonly drafts: Set<() => Promise<unknown>>;
  undo(redo: boolean): void;
  /** Another key that works while one types; true if it was one. */
  key(event: KeyboardEvent): boolean;
}

interface Given {
  readonly correcting: Correcting | null;
  readonly segments: readonly Segment[];
  readonly player: Player | null;
  readonly seek: (seconds: number) => void;
  readonly doubts: Doubts;
  readonly again: (start: number, end: number) => void;
}

export function useActive(segments: readonly Segment[]) {
  const [active, open] = useState<Active | null>(null);
  // What one edits may be joined with what is before it, by an undo or by somebody else.
  const start = active && (segments.findLast((one) => one.start <= active.start)?.start ?? null);
  const found = useMemo(() => (active && start !== null ? { start, caret: active.caret } : null), [active, start]);
  return { active: found, open };
}

export function useEditor(active: Active | null, open: (active: Active | null) => void, letters: number, given: Given): EditorHandle | null {
  const latest = useRef(given);
  latest.current = given;
  const drafts = useRef(new Set<() => Promise<unknown>>()).current;
  const corrections = given.correcting?.corrections;
  return useMemo(() => {
    if (!corrections) return null;
    const flush = () => Promise.all([...drafts].map((one) => one()));
    return {
      corrections,
      active,
      letters,
      open,
      drafts,
      segments: () => corrections.segments,
      typing: () => latest.current.player?.yieldTo(),
      play: (seconds) => {
        const { player, seek } = latest.current;
        seek(seconds);
        if (player?.audio.paused) player.toggle();
      },
      again: (start, end) => void flush().then(() => latest.current.again(start, end)),
      undo: (redo) => {
        void flush().then(() => (redo ? latest.current.correcting?.redo() : latest.current.correcting?.undo()));
      },
      key: (event) => {
        const { player, seek, doubts } = latest.current;
        if (event.ctrlKey || event.metaKey) return false;
        const pedal = pedals(player, seek);
        const withAlt: Record<string, (() => unknown) | undefined> = {
          KeyK: pedal.F8,
          KeyJ: pedal.F7,
          KeyL: pedal.F9,
          KeyN: () => doubts.step(event.shiftKey ? -1 : 1, true),
        };
        const action = event.altKey ? withAlt[event.code] : pedal[event.code];
        action?.();
        return action !== undefined;
      },
    };
  }, [corrections, active, letters, open, drafts]);
}

/** The place in the text that is heard at a time. */
export function placeAt(rows: readonly Row[], seconds: number): Active | null {
  const row = rows[rowAt(rows, seconds)];
  if (row?.kind !== "text") return null;
  const from = wordAt(row.words, seconds)?.from ?? 0;
  const piece = pieceAt(row, from);
  return piece ? { start: piece.segment.start, caret: Math.max(0, from - piece.from) } : null;
}
