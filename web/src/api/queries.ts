// What the app asks the farm for, and what it asks the farm to do. Every page takes its data from here.
import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";

import { useChange } from "./change";
import { api, data } from "./client";
import type { Defaults, JobView, paths, TranscriptionView } from "./schema";

export type State = TranscriptionView["state"];
export const ACTIVE: readonly State[] = ["fetching", "queued", "running", "assembling"];
export const isActive = (one: TranscriptionView) => ACTIVE.includes(one.state);
export const hasTranscript = (one: TranscriptionView) => one.state === "done" || one.state === "incomplete";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: () => data(api.GET("/app/session")),
  staleTime: Infinity,
  refetchInterval: 30_000, // users hear no events of workers, and what these offer is in it
});

/** Options that were chosen here and are not sent yet: they count more than those that the farm has. */
export const unsent: { defaults: Defaults | null } = { defaults: null };

export const preferencesQuery = queryOptions({
  queryKey: ["preferences"],
  queryFn: async () => {
    const before = unsent.defaults; // what was not sent as it began, the answer does not know
    const kept = await data(api.GET("/app/preferences"));
    return { ...kept, defaults: unsent.defaults ?? before ?? kept.defaults };
  },
  staleTime: Infinity,
});

export const limitsQuery = queryOptions({ queryKey: ["limits"], queryFn: () => data(api.GET("/api/limits")) });

export const serverQuery = queryOptions({ queryKey: ["server"], queryFn: () => data(api.GET("/api/server")) });

export const workersQuery = queryOptions({
  queryKey: ["workers"],
  queryFn: async () => (await data(api.GET("/api/workers"))).workers,
});

export const feedsQuery = queryOptions({ queryKey: ["feeds"], queryFn: () => data(api.GET("/api/feeds")) });

export const PAGE = 50;

export type Order = "newest" | "oldest" | "name" | "longest";

/** The transcriptions in some states (none: all), with these words in their name, of one feed or any, page by page. */
export const listQuery = (state: readonly State[] = [], title = "", order: Order = "newest", feed: string | null = null) =>
  infiniteQueryOptions({
    queryKey: ["transcriptions", state, title, order, feed],
    queryFn: ({ pageParam }) =>
      data(api.GET("/api/transcriptions", { params: { query: { limit: PAGE, after: pageParam, state: [...state], title, order, feed } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next ?? null,
    placeholderData: keepPreviousData,
  });

/** Passages in which these words are said, in episodes of one feed or anywhere. */
export const searchQuery = (words: string, feed: string | null) =>
  queryOptions({
    queryKey: ["search", words, feed],
    queryFn: async () => (await data(api.GET("/api/search", { params: { query: { words, feed } } }))).hits,
    enabled: words !== "",
    placeholderData: keepPreviousData,
  });

export const transcriptionQuery = (id: string) =>
  queryOptions({
    queryKey: ["transcription", id],
    queryFn: () => data(api.GET("/api/transcriptions/{transcription_id}", { params: { path: { transcription_id: id } } })),
  });

/** All jobs of a transcription, page by page. */
export const jobsQuery = (id: string) =>
  queryOptions({
    queryKey: ["jobs", id],
    queryFn: async () => {
      const jobs: JobView[] = [];
      let after: number | null = null;
      do {
        const page: { jobs: readonly JobView[]; next?: number | null } = await data(
          api.GET("/api/transcriptions/{transcription_id}/jobs", {
            params: { path: { transcription_id: id }, query: { limit: 1000, after } },
          }),
        );
        jobs.push(...page.jobs);
        after = page.next ?? null;
      } while (after !== null);
      return jobs;
    },
  });

export type Action = "cancel" | "retry" | "delete";

/** Cancel, retry or delete a transcription. */
export async function act(id: string, action: Action, keepalive = false): Promise<void> {
  const params = { path: { transcription_id: id } };
  if (action === "delete") await data(api.DELETE("/api/transcriptions/{transcription_id}", { params, keepalive }));
  else await data(api.POST(`/api/transcriptions/{transcription_id}/${action}`, { params }));
}

export const useAction = () =>
  useChange(({ id, action }: { id: string; action: Action }) => act(id, action), [["transcriptions"], ["transcription"], ["jobs"]]);

/** Try one job again that was set aside. */
export const useRetryJob = () =>
  useChange(
    ({ id, job }: { id: string; job: string }) =>
      data(
        api.POST("/api/transcriptions/{transcription_id}/jobs/{job_id}/retry", {
          params: { path: { transcription_id: id, job_id: job } },
        }),
      ),
    [["transcriptions"], ["transcription"], ["jobs"]],
  );

export const useRename = () =>
  useChange(
    ({ id, name }: { id: string; name: string }) =>
      data(api.PATCH("/api/transcriptions/{transcription_id}", { params: { path: { transcription_id: id } }, body: { name } })),
    [["transcriptions"], ["transcription"]],
  );

export type WorkerAction = paths["/api/workers/{worker_id}/{action}"]["post"]["parameters"]["path"]["action"];

export const useWorkerAction = (done: (name: WorkerAction) => void) =>
  useChange(
    ({ id, action }: { id: string; action: WorkerAction }) =>
      data(api.POST("/api/workers/{worker_id}/{action}", { params: { path: { worker_id: id, action } } })),
    [["workers"]],
    (_, { action }) => done(action),
  );
