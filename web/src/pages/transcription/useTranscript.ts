// The text of a transcription: of a finished one its document, of a running one what is done so far.
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";

import { address, api, data, refusal } from "../../api/client";
import { hasTranscript, jobsQuery } from "../../api/queries";
import type { JobView, TranscriptionView } from "../../api/schema";
import { type Hole, holesOf, type Row, type Segment, toRows } from "./rows";
import { Runs } from "./runs";

/** What the app reads of the document that `?format=json` gives. */
interface Document {
  readonly segments: readonly {
    readonly start: number;
    readonly end: number;
    readonly text: string;
    readonly words?: readonly { word: string; start: number; end: number; probability: number | null }[];
  }[];
  readonly coverage: { readonly missing: readonly { start: number; end: number; reason: string }[] };
}

const documentQuery = (one: TranscriptionView) =>
  queryOptions({
    queryKey: ["transcript", one.id, one.finished_at],
    staleTime: Infinity,
    queryFn: async () => {
      const answer = await fetch(address(`api/transcriptions/${one.id}/transcript?format=json`));
      if (!answer.ok) throw refusal(answer.status, await answer.json().catch(() => undefined));
      return (await answer.json()) as Document;
    },
  });

export interface Reading {
  readonly rows: readonly Row[];
  readonly jobs: readonly JobView[];
  readonly loading: boolean;
  readonly error: Error | null;
}

export function useTranscript(one: TranscriptionView): Reading {
  const finished = hasTranscript(one);
  const document = useQuery({ ...documentQuery(one), enabled: finished });
  const jobs = useQuery({ ...jobsQuery(one.id), enabled: !finished });
  const runs = useRuns(one.id, finished ? undefined : jobs.data);
  const whole = one.progress.duration_seconds ?? null;
  const rows = useMemo(() => {
    if (finished) return document.data ? rowsOf(document.data) : [];
    return toRows(runs, holesOf(jobs.data ?? [], whole));
  }, [finished, document.data, runs, jobs.data, whole]);
  return {
    rows,
    jobs: jobs.data ?? [],
    loading: finished ? document.isPending : jobs.isPending,
    error: finished ? document.error : jobs.error,
  };
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

function rowsOf(document: Document): Row[] {
  const segments = document.segments.map((segment) => ({
    ...segment,
    words: (segment.words ?? []).map(({ word, ...rest }) => ({ ...rest, text: word })),
  }));
  const holes = document.coverage.missing.map(
    ({ start, end, reason }): Hole => ({ kind: "hole", start, end, state: "missing", said: reason }),
  );
  return toRows(segments as readonly Segment[], holes);
}
