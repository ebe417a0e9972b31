// The workers, and what they can be told: to rest, to go on, to leave; after what they hold or at once.
import { Badge, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconClock, IconDoorExit, IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";

import { useWorkerAction } from "../../api/queries";
import type { EngineOffer, WorkerView } from "../../api/schema";
import { Actions, type Fact, Facts } from "../../shell/Parts";
import type { Texts } from "../../texts";
import { modelName, useWords } from "../../words";
import style from "./Farm.module.css";
import { HoursDialog } from "./Hours";
import { workerActions, workerState } from "./state";

const COLOURS = { ready: "blue", live: "farm", silent: "orange", pausing: "orange", paused: "orange", resting: "gray", draining: "orange", dismissed: "orange", gone: "gray" };
const ICONS = {
  pause: IconPlayerPause,
  "pause-now": IconPlayerPause,
  resume: IconPlayerPlay,
  drain: IconDoorExit,
  dismiss: IconDoorExit,
};

export function Workers({ workers, now }: { workers: readonly WorkerView[]; now: number }) {
  const { t } = useWords();
  if (!workers.length) return <Text c="dimmed">{t.farm.noWorkers}</Text>;
  return (
    <ul className={style.workers} aria-label={t.farm.workers}>
      {[...workers].sort((a, b) => Number(a.state === "gone") - Number(b.state === "gone")).map((one) => (
        <Worker key={one.id} one={one} now={now} />
      ))}
    </ul>
  );
}

function Worker({ one, now }: { one: WorkerView; now: number }) {
  const { t, ago, number } = useWords();
  const offers = one.engines as unknown as readonly EngineOffer[];
  const state = workerState(one);
  const hours = one.wanted_hours ?? one.hours;
  const facts: Fact[] = [
    [t.farm.engine, offers.map((offer) => `${offer.engine}: ${modelsOf(offer, t.farm)}`).join("; ") || t.farm.none],
    [t.farm.device, [...new Set(offers.map(({ device }) => device)), t.farm.slots(one.slots)].join(" · ")],
    [t.reader.speed, one.speed ? t.list.speed(number(one.speed, one.speed < 10 ? 1 : 0)) : t.farm.none],
    [t.farm.holds, number(one.jobs)],
    [t.farm.seen, ago(now - one.last_seen_at)],
    [t.farm.version, one.version],
  ];
  return (
    <li className={style.worker} data-gone={one.state === "gone" || undefined}>
      <div className={style.who}>
        <Text fw={600} truncate title={one.name}>{one.name}</Text>
        <Badge color={COLOURS[state]}>{t.farm.workerStates[state]}</Badge>
        {hours && <Text size="xs" c="dimmed" title={t.farm.hours}>{t.hours.shown(hours)}</Text>}
      </div>
      <div className={style.about}><Facts facts={facts} /></div>
      {one.state === "gone" || one.state === "dismissed" ? <span /> : <WorkerActions one={one} />}
    </li>
  );
}

function modelsOf(offer: EngineOffer, { anyModel, cannotHave }: Texts["farm"]): string {
  const models = offer.models ?? offer.loaded;
  const runs = models?.length ? models.map(modelName).join(", ") : anyModel;
  return offer.resting?.length ? `${runs}, ${cannotHave(offer.resting.map(modelName).join(", "))}` : runs;
}

function WorkerActions({ one }: { one: WorkerView }) {
  const { t } = useWords();
  const { mutate } = useWorkerAction((name) => notifications.show({ message: t.farm.told[name](one.name) }));
  const [asking, hours] = useDisclosure(false);
  const actions = workerActions(one).map((name) => ({
    label: t.farm.tell[name],
    hint: t.farm.tellHints[name],
    icon: ICONS[name],
    run: () => mutate({ id: one.id, action: name }),
  }));
  return (
    <>
      <Actions label={t.list.actions(one.name)} actions={[...actions, { label: t.hours.set, icon: IconClock, run: hours.open }]} />
      {asking && <HoursDialog one={one} onClose={hours.close} />}
    </>
  );
}
