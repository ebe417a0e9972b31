// The controls of the sound, always in reach at the bottom of the page.
import { ActionIcon, Button, Group, Menu, Slider, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { IconPlayerPauseFilled, IconPlayerPlayFilled, IconRewindBackward5, IconRewindForward5 } from "@tabler/icons-react";
import { lazy, Suspense, useCallback, useState } from "react";

import { address } from "../../api/client";
import { clock, useWords } from "../../words";
import type { Peaks } from "./Wave";
import style from "./Transcription.module.css";
import { type Player, RATES, useTime } from "./usePlayer";

const Wave = lazy(() => import("./Wave"));

interface Props {
  readonly id: string;
  readonly player: Player;
  readonly duration: number;
  readonly onSeek: (seconds: number) => void;
  readonly away: boolean;
  readonly onNow: () => void;
}

export function PlayerBar({ id, player, duration, onSeek, away, onNow }: Props) {
  const { t, number } = useWords();
  const [seconds, setSeconds] = useState(0);
  useTime(player.audio, useCallback((now) => setSeconds(Math.floor(now * 4) / 4), []));
  const { data: peaks } = useQuery({
    queryKey: ["peaks", id],
    staleTime: Infinity,
    queryFn: async () => {
      const answer = await fetch(address(`api/transcriptions/${id}/peaks`));
      return answer.ok ? ((await answer.json()) as Peaks) : null;
    },
  });
  return (
    <div className={style.player} role="region" aria-label={t.reader.position}>
      {away && <Button className={style.now} size="compact-sm" onClick={onNow}>{t.reader.now}</Button>}
      <div className={style.controls}>
        <Group gap={4} wrap="nowrap">
          <ActionIcon variant="subtle" size="lg" aria-label={t.reader.backward} onClick={() => onSeek(player.audio.currentTime - 5)}>
            <IconRewindBackward5 size={22} />
          </ActionIcon>
          <ActionIcon size={44} radius="xl" aria-label={player.playing ? t.reader.pause : t.reader.play} onClick={player.toggle}>
            {player.playing ? <IconPlayerPauseFilled size={20} /> : <IconPlayerPlayFilled size={20} />}
          </ActionIcon>
          <ActionIcon variant="subtle" size="lg" aria-label={t.reader.forward} onClick={() => onSeek(player.audio.currentTime + 5)}>
            <IconRewindForward5 size={22} />
          </ActionIcon>
        </Group>
        <div className={style.track}>
          {peaks ? <Suspense><Wave peaks={peaks} audio={player.audio} duration={duration} /></Suspense> : null}
          <Slider
            thumbLabel={t.reader.position}
            thumbProps={{ "aria-valuetext": clock(seconds) }}
            value={seconds}
            min={0}
            max={Math.max(duration, seconds, 1)}
            step={0.25}
            label={clock}
            size={peaks ? 3 : 6}
            onChange={onSeek}
          />
        </div>
        <Text className={style.clock} size="sm">{clock(seconds)} / {clock(duration)}</Text>
        <Menu position="top-end">
          <Menu.Target>
            <Button variant="subtle" size="compact-sm" aria-label={`${t.reader.speed}: ${number(player.rate, 2)} ×`}>
              {number(player.rate, 2)} ×
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            {RATES.map((rate) => (
              <Menu.Item key={rate} onClick={() => player.setRate(rate)}>{number(rate, 2)} ×</Menu.Item>
            ))}
          </Menu.Dropdown>
        </Menu>
      </div>
    </div>
  );
}
