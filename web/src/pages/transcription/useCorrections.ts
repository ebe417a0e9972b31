// Corrections of one transcription in this tab: where they are sent, where the text is kept, and what others change.
import { notifications } from "@mantine/notifications";
import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useSyncExternalStore } from "react";

import { api, data } from "../../api/client";
import { hasTranscript } from "../../api/queries";
import type { EditsView, TranscriptionView } from "../../api/schema";
import { useWords } from "../../words";
import { type Conflict, Corrections, type Saving } from "./corrections";
import { type Transcript, transcriptQuery } from "./useTranscript";

export interface Correcting {
  readonly corrections: Corrections;
  readonly saving: Saving;
  readonly conflicts: readonly Conflict[];
  readonly view: EditsView | undefined;
  undo(): Promise<unknown>;
  redo(): Promise<unknown>;
}

const NONE = { saving: "saved" as const, conflicts: [] };
const nothing = () => () => undefined;

/** Null before there is a transcript. */
export function useCorrections(one: TranscriptionView, readOnly = false): Correcting | null {
  const { t } = useWords();
  const client = useQueryClient();
  const possible = hasTranscript(one) && !readOnly;
  const { queryKey } = transcriptQuery(one);
  const key = JSON.stringify(queryKey);
  const corrections = useMemo(() => {
    const path = { path: { transcription_id: one.id } };
    return new Corrections({
      send: (body) => data(api.POST("/api/transcriptions/{transcription_id}/edits", { params: path, body })),
      since: (after) => data(api.GET("/api/transcriptions/{transcription_id}/edits", { params: { ...path, query: { after } } })),
      text: () => client.getQueryData<Transcript>(queryKey),
      show: (text, view) => {
        client.setQueryData<Transcript>(queryKey, (had) => had && (had.number === text.number ? had : { ...had, ...text }));
        client.setQueryData(["edits", one.id], view);
      },
      refuse: (error) =>
        notifications.show({ color: "red", message: error.code === "edit_conflict" ? t.edit.tooLate : error.message }),
    });
    // `key` stands for `queryKey`
  }, [client, one.id, key, t]);
  const loaded = useQuery({ ...transcriptQuery(one), enabled: possible }).isSuccess;
  const { data: view } = useQuery(
    queryOptions({
      queryKey: ["edits", one.id],
      enabled: possible && loaded,
      queryFn: async () => (await corrections.follow()) ?? null,
    }),
  );
  const state = useSyncExternalStore(possible ? corrections.subscribe : nothing, possible ? corrections.snapshot : () => NONE);
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => {
      const { saving, conflicts } = corrections.snapshot();
      if (saving !== "saved" || conflicts.length) event.preventDefault(); // what one has typed is nowhere else
    };
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [corrections]);
  return useMemo(() => {
    if (!possible) return null;
    const reverse = (number: number | null | undefined) => (number ? corrections.change({ reverse: number }) : Promise.resolve());
    const current = () => client.getQueryData<EditsView>(["edits", one.id]);
    return {
      corrections,
      ...state,
      view: view ?? undefined,
      undo: () => reverse(current()?.undo),
      redo: () => reverse(current()?.redo),
    };
  }, [possible, corrections, state, view, client, one.id]);
}
