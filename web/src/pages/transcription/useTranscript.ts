// The text of a transcription: of a finished one its document, of a running one what is done so far.
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";

import { address, api, data, refusal } from "../../api/client";
import { hasTranscript, jobsQuery } from "../../api/queries";
import type { JobView, TranscriptionView } from "../../api/schema";
import type { Text } from "./corrections";
import { type Hole, holesOf, type Row, type Segment, toRows } from "./rows";
import { Runs } from "./runs";

/** What the app reads of the document that `?format=json` gives. */
interface Document {
  readonly segments: readonly (Omit<Segment, "words"> & {
    readonly words?: readonly { word: string; start: number; end: number; probability: number | null }[];
  })[];
  readonly coverage: { readonly missing: readonly { start: number; end: number; reason: string }[] };
  readonly edits?: number;
}

export interface Transcript extends Text {
  readonly missing: readonly Hole[];
}

export const transcriptQuery = (one: TranscriptionView) =>
  queryOptions({
    queryKey: ["transcript", one.id, one.finished_at],
    staleTime: Infinity,
    queryFn: async () => {
      const answer = await fetch(address(`api/transcriptions/${one.id}/transcript?format=json&struck=true`));
      if (!answer.ok) throw refusal(answer.status, await answer.json().catch(() => undefined));
      return transcriptOf((await answer.json()) as Document);
    },
  });

function transcriptOf(document: Document): Transcript {
  return {
    number: document.edits ?? 0,
    segments: document.segments.map((segment) => ({
      ...segment,
      words: (segment.words ?? []).map(({ word, ...rest }) => ({ ...rest, text: word })),
    })),
    missing: document.coverage.missing.map(
      ({ start, end, reason }): Hole => ({ kind: "hole", start, end, state: "missing", said: reason }),
    ),
  };
}

export interface Reading {
  readonly segments: readonly Segment[];
  readonly rows: readonly Row[];
  readonly jobs: readonly JobView[];
  readonly loading: boolean;
  readonly error: Error | null;
}

/** `editing` keeps the paragraphs as they are. */
export function useTranscript(one: TranscriptionView, editing: boolean): Reading {
  const finished = hasTranscript(one);
  const transcript = useQuery({ ...transcriptQuery(one), enabled: finished });
  const jobs = useQuery({ ...jobsQuery(one.id), enabled: !finished });
  const runs = useRuns(one.id, finished ? undefined : jobs.data);
  const whole = one.progress.duration_seconds ?? null;
  const kept = useRef<ReadonlySet<number> | null>(null);
  // what was read while it ran stays until all of it is there
  const segments = (finished ? transcript.data?.segments : null) ?? runs;
  const rows = useMemo(() => {
    const holes = finished ? unfilled(transcript.data?.missing ?? NOTHING, segments) : holesOf(jobs.data ?? [], whole);
    const made = toRows(segments, holes, editing ? kept.current : null);
    if (!editing) kept.current = new Set(made.map(({ start }) => start));
    return made;
  }, [finished, transcript.data, segments, jobs.data, whole, editing]);
  return {
    segments,
    rows,
    jobs: jobs.data ?? [],
    loading: segments.length === 0 && (finished ? transcript.isPending : jobs.isPending),
    error: finished ? transcript.error : jobs.error,
  };
}

const NOTHING: readonly never[] = [];

/** The missing parts that nobody has filled. */
function unfilled(holes: readonly Hole[], segments: readonly Segment[]): Hole[] {
  return holes.filter((hole) => !segments.some(({ start, end }) => hole.start <= (start + end) / 2 && (start + end) / 2 < hole.end));
}

function useRuns(id: string, jobs: readonly JobView[] | undefined): readonly Segment[] {
  const [segments, setSegments] = useState<readonly Segment[]>([]);
  const runs = useRef<{ id: string; runs: Runs; busy: boolean; waiting: readonly JobView[] | null } | null>(null);
  useEffect(() => {
    if (!jobs) return;
    if (runs.current?.id !== id) {
      runs.current = { id, runs: new Runs((after) => page(id, after)), busy: false, waiting: null };
      setSegments([]);
    }
    const mine = runs.current;
    mine.waiting = jobs;
    if (mine.busy) return;
    mine.busy = true;
    void (async () => {
      while (mine.waiting) {
        const wanted = mine.waiting;
        mine.waiting = null;
        const changed = await mine.runs.update(wanted).catch(() => false);
        if (changed && runs.current === mine) setSegments(mine.runs.segments);
      }
      mine.busy = false;
    })();
  }, [id, jobs]);
  return segments;
}

const page = (id: string, after: number) =>
  data(
    api.GET("/api/transcriptions/{transcription_id}/segments", {
      params: { path: { transcription_id: id }, query: { after } },
    }),
  );
