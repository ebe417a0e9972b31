// The state of a transcription as one word.
import { Badge } from "@mantine/core";

import type { State } from "../api/queries";
import { useWords } from "../words";

const COLOURS: Record<State, string> = {
  fetching: "gray",
  queued: "gray",
  running: "blue",
  assembling: "blue",
  done: "farm",
  incomplete: "orange",
  failed: "red",
  cancelled: "gray",
};

export function StateBadge({ state }: { state: State }) {
  const { t } = useWords();
  return <Badge color={COLOURS[state]}>{t.states[state]}</Badge>;
}
