// One transcription as a link shows it: to be read, heard and exported by anybody who has the link.
import { Alert, Container, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useCallback, useEffect, useRef } from "react";

import { address, api, data } from "../../api/client";
import { hasTranscript, isActive, transcriptionQuery } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { copy } from "../../copy";
import icon from "../../icon.svg";
import { isFatal, Problem } from "../../shell/Failed";
import { Note } from "../../shell/Parts";
import { clock, useWords } from "../../words";
import { Export } from "../transcription/Export";
import { PlayerBar } from "../transcription/PlayerBar";
import { Reader, type ReaderHandle } from "../transcription/Reader";
import { useFollowing, useLinked } from "../transcription/Transcription";
import style from "../transcription/Transcription.module.css";
import { usePlayer } from "../transcription/usePlayer";
import { useTranscript } from "../transcription/useTranscript";

const LOOK_MS = 5000;

export function Shared() {
  const { t } = useWords();
  const { id, secret } = useParams({ from: "/shared/$id/$secret" });
  const opening = useQuery({
    queryKey: ["shared", id, secret],
    staleTime: Infinity,
    queryFn: async () => (await data(api.POST("/app/shared", { body: { transcription_id: id, secret } }))) ?? true,
  });
  const { data: one, error } = useQuery({
    ...transcriptionQuery(id),
    enabled: opening.isSuccess,
    refetchInterval: ({ state }) => (state.data && isActive(state.data) ? LOOK_MS : false),
  });
  const failed = opening.error ?? error;
  return (
    <Container component="main" size="md" py="lg" className={style.withPlayer}>
      {isFatal(failed, one) ? (
        <Stack>
          <Title order={1}>{t.share.endedTitle}</Title>
          <Problem error={failed} title={null} />
        </Stack>
      ) : !one ? <Loader aria-label={t.loading} /> : <Shown one={one} secret={secret} />}
    </Container>
  );
}

function Shown({ one, secret }: { one: TranscriptionView; secret: string }) {
  const { t } = useWords();
  useEffect(() => {
    document.title = `${one.name} · ${t.app}`;
  }, [one.name, t]);
  return (
    <Stack gap="md">
      <header>
        <Group gap="xs">
          <img src={icon} alt="" width={22} height={22} />
          <Note>{t.share.shown(t.app)}</Note>
        </Group>
        <Title order={1} className={style.title} lineClamp={3} title={one.name} dir="auto">{one.name}</Title>
        <Note>{one.progress.duration_seconds ? clock(one.progress.duration_seconds) : null}</Note>
      </header>
      {hasTranscript(one) ? <Reading one={one} secret={secret} /> : <Alert>{t.share.notYet}</Alert>}
    </Stack>
  );
}

function Reading({ one, secret }: { one: TranscriptionView; secret: string }) {
  const { t } = useWords();
  const reading = useTranscript(one, false);
  const player = usePlayer(one.id);
  const reader = useRef<ReaderHandle>(null);
  const { away, seek, now } = useFollowing(player, reader, reading.rows);
  const link = useCallback(
    (seconds: number) => void copy(`${address("")}#/shared/${one.id}/${secret}?t=${Math.floor(seconds)}`, t),
    [one.id, secret, t],
  );
  useLinked(reading.rows, reader, seek);
  if (isFatal(reading.error, reading.rows[0])) return <Problem error={reading.error} />;
  if (reading.loading) return <Loader aria-label={t.loading} />;
  return (
    <>
      <Group><Export one={one} rows={reading.rows} /></Group>
      {reading.rows.length === 0 && <Text c="dimmed">{t.reader.empty}</Text>}
      <Reader ref={reader} rows={reading.rows} matches={[]} onSeek={seek} onLink={link} editor={null} />
      {player && (
        <PlayerBar id={one.id} player={player} duration={one.progress.duration_seconds ?? 0} onSeek={seek} away={away} onNow={now} />
      )}
    </>
  );
}
