// The lanes as a picture: time goes to the right, now is at the right edge.
import { Text } from "@mantine/core";

import { useWords } from "../../words";
import style from "./Farm.module.css";
import { type Bar, WINDOW_SECONDS, type WorkerLanes } from "./lanes";

const LANE = 14;
const WIDTH = 1000;
const HUES = ["#2a9d6f", "#3b82f6", "#c77700", "#8b5cf6", "#0e9aa7", "#c2417b", "#7a8f12", "#5b6bd6"];

interface Props {
  readonly workers: readonly WorkerLanes[];
  readonly now: number;
  readonly names: ReadonlyMap<string, string>;
}

export function Lanes({ workers, now, names }: Props) {
  const { t } = useWords();
  if (!workers.length) return <Text c="dimmed">{t.farm.noLanes}</Text>;
  const order = [...new Set(workers.flatMap(({ lanes }) => lanes.flat().map((bar) => bar.transcription)))].sort();
  const colour = (bar: Bar) => HUES[order.indexOf(bar.transcription) % HUES.length];
  const x = (at: number) => ((at - now + WINDOW_SECONDS) / WINDOW_SECONDS) * WIDTH;
  return (
    <div className={style.lanes}>
      {workers.map(({ worker, name, lanes, count }) => (
        <div key={worker} className={style.lane}>
          <Text size="sm" truncate className={style.laneName}>{name}</Text>
          <svg
            viewBox={`0 0 ${WIDTH} ${lanes.length * LANE}`}
            preserveAspectRatio="none"
            style={{ height: lanes.length * LANE }}
            role="img"
            aria-label={t.farm.laneLabel(name, count)}
          >
            {lanes.map((bars, lane) =>
              bars.map((bar) => (
                <rect
                  key={bar.key}
                  x={x(bar.start)}
                  y={lane * LANE + 2}
                  width={Math.max(1.5, x(bar.end) - x(bar.start) - 0.8)}
                  height={LANE - 4}
                  rx={2}
                  data-state={bar.state}
                  className={style.bar}
                  style={{ fill: bar.state === "other" ? "#dc4c3e" : colour(bar) }}
                >
                  <title>{`${names.get(bar.transcription) ?? ""} ${bar.position < 0 ? "" : `#${bar.position + 1}`}`}</title>
                </rect>
              )),
            )}
          </svg>
        </div>
      ))}
      <div className={style.axis} aria-hidden>
        {[5, 4, 3, 2, 1, 0].map((minutes) => <span key={minutes}>{minutes ? `−${minutes} min` : "0"}</span>)}
      </div>
      <ul className={style.names}>
        {order.map((id, index) => (
          <li key={id}><i style={{ background: HUES[index % HUES.length] }} /> <bdi>{names.get(id) ?? id}</bdi></li>
        ))}
      </ul>
    </div>
  );
}
