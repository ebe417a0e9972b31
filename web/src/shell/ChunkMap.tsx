// A cell for each chunk of a transcription, in order; drawn as one path for each state, however many there are.
import type { MouseEvent } from "react";

import type { JobView } from "../api/schema";
import { useWords } from "../words";
import style from "./ChunkMap.module.css";
import { CHUNK_COLOURS, type ChunkState, chunkState } from "./chunks";

const CELL = 12;
const GAP = 2;
const COLUMNS = 60;

interface Props {
  readonly jobs: readonly JobView[];
  readonly label: string;
  /** Somebody has clicked the cell of a chunk. */
  readonly onPick?: (job: JobView) => void;
}

export function ChunkMap({ jobs, label, onPick }: Props) {
  const { t } = useWords();
  const chunks = jobs.filter(({ kind }) => kind === "transcribe");
  if (!chunks.length) return null;
  const paths = new Map<ChunkState, { path: string; count: number }>();
  const side = CELL - GAP;
  for (const job of chunks) {
    const state = chunkState(job);
    const [x, y] = [(job.position % COLUMNS) * CELL, Math.floor(job.position / COLUMNS) * CELL];
    const had = paths.get(state) ?? { path: "", count: 0 };
    paths.set(state, { path: `${had.path}M${x} ${y}h${side}v${side}h-${side}z`, count: had.count + 1 });
  }
  const columns = Math.min(COLUMNS, Math.max(chunks.length, 24));
  const rows = Math.max(1, Math.ceil(chunks.length / COLUMNS));
  const pick = (event: MouseEvent<SVGSVGElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height];
    const position = Math.floor(y * rows) * COLUMNS + Math.floor(x * columns);
    const job = chunks.find((one) => one.position === position);
    if (job) onPick?.(job);
  };
  return (
    <figure className={style.figure}>
      <svg
        viewBox={`0 0 ${columns * CELL} ${rows * CELL}`}
        role="img"
        aria-label={label}
        style={{ maxWidth: columns * 16, cursor: onPick ? "pointer" : undefined }}
        onClick={pick}
      >
        {[...paths].map(([state, { path }]) => <path key={state} d={path} style={{ fill: CHUNK_COLOURS[state] }} />)}
      </svg>
      <figcaption className={style.legend}>
        {[...paths].map(([state, { count }]) => (
          <span key={state}><i style={{ background: CHUNK_COLOURS[state] }} /> {count} {t.chunkStates[state]}</span>
        ))}
      </figcaption>
    </figure>
  );
}
