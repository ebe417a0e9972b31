// One transcription: its text, readable while it is still being made, with the sound where there is one.
import { ActionIcon, Button, Container, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { IconAlertCircle, IconChevronDown, IconChevronUp, IconKeyboard, IconLayoutGrid, IconSearch } from "@tabler/icons-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { address } from "../../api/client";
import { hasTranscript, isActive, transcriptionQuery } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { copy } from "../../copy";
import { ChunkMap } from "../../shell/ChunkMap";
import { isFatal, Problem, ToList } from "../../shell/Failed";
import { useLetters } from "../../shell/files";
import { StateBadge } from "../../shell/StateBadge";
import { Note, Small } from "../../shell/Parts";
import { clock, modelName, useNow, useWords } from "../../words";
import { Bar, Pace, RowActions, Trouble } from "../transcriptions/Row";
import { AgainDialog, AgainResult, useAgain } from "./Again";
import { Conflicts, MoreMenu, Saved, UndoButtons } from "./Corrected";
import { Export } from "./Export";
import { FindBar } from "./FindBar";
import { Jobs } from "./Jobs";
import { type Doubts, KeySheet, useKeys } from "./Keys";
import { PlayerBar } from "./PlayerBar";
import { Reader, type ReaderHandle } from "./Reader";
import { doubtsOf, find, type Row, rowAt, saidBy, wordAt } from "./rows";
import { Share } from "./Share";
import { Speakers } from "./Speakers";
import style from "./Transcription.module.css";
import { useCorrections } from "./useCorrections";
import { type Active, placeAt, useActive, useEditor } from "./useEditor";
import { type Player, useMediaKeys, usePlayer, useTime } from "./usePlayer";
import { type Reading, useTranscript } from "./useTranscript";

const NOTHING: readonly never[] = [];

export function Transcription() {
  const { id } = useParams({ from: "/shell/transcriptions/$id" });
  const { t } = useWords();
  const { data: one, error } = useQuery(transcriptionQuery(id));
  if (isFatal(error, one)) return <Container size="md" py="lg"><ToList /><Problem error={error} /></Container>;
  if (!one) return <Container py="lg"><Loader aria-label={t.loading} /></Container>;
  return <Shown key={id} one={one} />;
}

function Shown({ one }: { one: TranscriptionView }) {
  const { t } = useWords();
  const [editing, setEditing] = useState(false);
  const reading = useTranscript(one, editing);
  const [only, setOnly] = useState<string | null>(null);
  const rows = useMemo(() => saidBy(reading.rows, only), [reading.rows, only]);
  const player = usePlayer(one.id);
  const correcting = useCorrections(one);
  const { active, open } = useActive(reading.segments);
  useEffect(() => setEditing(active !== null), [active]);
  const [letters, setLetters] = useLetters();
  const [speakersShown, speakers] = useDisclosure(false);
  const again = useAgain(one);
  const reader = useRef<ReaderHandle>(null);
  const [keysShown, keys] = useDisclosure(false);
  const [finding, finder] = useDisclosure(false);
  const [wanted, setWanted] = useState("");
  const matches = useMemo(() => (finding ? find(rows, wanted) : NOTHING), [finding, rows, wanted]);
  const show = (seconds: number) => reader.current?.show(rowAt(rows, seconds));
  const { following, away, seek, now } = useFollowing(player, reader, rows);
  const doubts = useDoubts(rows, reader, seek, correcting ? open : null);
  const editor = useEditor(active, open, letters, { correcting, segments: reading.segments, player, seek, doubts, again: again.ask });
  const link = useCallback(
    (seconds: number) => void copy(`${address("")}#/transcriptions/${one.id}?t=${Math.floor(seconds)}`, t),
    [one.id, t],
  );
  useLinked(rows, reader, seek);
  useMediaKeys(player, seek, one.name);
  useEffect(() => {
    document.title = `${one.name} · ${t.app}`;
    return () => void (document.title = t.app);
  }, [one.name, t]);
  const heard = () => player?.audio.currentTime ?? following.current;
  useKeys({
    ...{ player, seek, now, doubts, finder, keys },
    link: () => link(heard()),
    edit: () => editor?.open(placeAt(rows, heard())),
    undo: (redo) => editor?.undo(redo),
  });
  return (
    <Container size="md" py="lg" className={player ? style.withPlayer : ""}>
      <Stack gap="md">
        <Head one={one} rows={reading.rows} onKeys={keys.open} onFind={finder.toggle} onShow={show} doubts={doubts} saved={correcting && <Saved correcting={correcting} />}>
          {correcting && editor && (
            <>
              <UndoButtons correcting={correcting} onUndo={editor.undo} />
              <MoreMenu id={one.id} correcting={correcting} letters={letters} onLetters={setLetters} onSpeakers={speakers.open} />
            </>
          )}
        </Head>
        {correcting && <Conflicts correcting={correcting} onShow={show} />}
        {editor && <AgainResult one={one} again={again} editor={editor} onShow={show} />}
        {finding && (
          <FindBar
            rows={rows}
            editor={editor}
            wanted={wanted}
            onWanted={setWanted}
            matches={matches}
            onShow={(match) => reader.current?.show(match.row, match)}
            onClose={finder.close}
          />
        )}
        {isActive(one) && reading.jobs.length > 1 && (
          <ChunkMap
            jobs={reading.jobs}
            onPick={({ start_seconds }) => show(start_seconds)}
            label={t.farm.mapOf(one.name, one.progress.chunks_done ?? 0, one.progress.chunks ?? 0)}
          />
        )}
        {rows !== reading.rows && (
          <Group gap="xs" role="status">
            <Note>{t.edit.onlyOne(only ?? "")}</Note>
            <Small variant="default" label={t.edit.everybody} onClick={() => setOnly(null)} />
          </Group>
        )}
        <Body one={one} reading={reading}>
          <Reader ref={reader} rows={rows} matches={matches} onSeek={seek} onLink={link} editor={editor} />
        </Body>
      </Stack>
      {player && (
        <PlayerBar
          id={one.id}
          player={player}
          duration={one.progress.duration_seconds ?? 0}
          onSeek={seek}
          away={away}
          onNow={now}
        />
      )}
      <KeySheet opened={keysShown} onClose={keys.close} edits={editor !== null} />
      {editor && <AgainDialog one={one} again={again} />}
      {editor && <Speakers editor={editor} opened={speakersShown} onClose={speakers.close} hear={player?.hear ?? null} onOnly={setOnly} />}
    </Container>
  );
}

function Body({ one, reading, children }: { one: TranscriptionView; reading: Reading; children: React.ReactNode }) {
  const { t } = useWords();
  if (isFatal(reading.error, reading.rows[0])) return <Problem error={reading.error} />;
  if (reading.loading) return <Loader aria-label={t.loading} />;
  if (reading.rows.length === 0) {
    if (one.state === "failed") return null;
    return <Text c="dimmed">{hasTranscript(one) ? t.reader.empty : t.reader.nothing}</Text>;
  }
  return children;
}

function Head({ one, rows, onKeys, onFind, onShow, doubts, saved, children }: {
  one: TranscriptionView;
  rows: readonly Row[];
  onKeys: () => void;
  onFind: () => void;
  onShow: (seconds: number) => void;
  doubts: Doubts;
  saved: React.ReactNode;
  children: React.ReactNode;
}) {
  const { t, languageName, number } = useWords();
  const now = useNow(isActive(one) ? 1 : 60);
  const [jobsShown, jobs] = useDisclosure(false);
  const navigate = useNavigate();
  const readable = isActive(one) || hasTranscript(one);
  const facts = one.language ? [languageName(one.language)] : [];
  if (readable) facts.push(t.reader.made(one.options.engine ?? "", modelName(one.options.model)));
  if (readable && one.options.diarize && one.warning_code !== "without_speakers") facts.push(isActive(one) ? t.reader.speakersAtEnd : t.reader.speakersApart);
  if (one.cost != null) facts.push(t.reader.cost(number(one.cost, 2)));
  return (
    <header>
      <ToList />
      <Group justify="space-between" align="start" wrap="nowrap">
        <Title order={1} className={style.title} lineClamp={3} title={one.name} dir="auto">{one.name}</Title>
        <RowActions one={one} onRemove={() => void navigate({ to: "/" })} />
      </Group>
      <Group gap="xs" className={style.facts}>
        <StateBadge state={one.state} />
        <Pace one={one} now={now} more={facts} />
        {saved}
      </Group>
      {isActive(one) && <Bar one={one} />}
      <Trouble one={one} />
      <Group gap="xs" mt="md" className={style.toolbar}>
        {readable && (
          <>
            <Export one={one} rows={rows} />
            <Share id={one.id} />
            <Button variant="default" data-short leftSection={<IconSearch size={17} aria-hidden />} aria-label={t.reader.find} onClick={onFind}>
              {t.reader.findShort}
            </Button>
          </>
        )}
        {doubts.count > 0 && (
          <Button.Group>
            <Button variant="default" px="xs" aria-label={t.reader.previousDoubt} onClick={() => doubts.step(-1)}>
              <IconChevronUp size={17} />
            </Button>
            <Button
              variant="default"
              leftSection={<IconAlertCircle size={17} aria-hidden />}
              rightSection={<IconChevronDown size={17} aria-hidden />}
              aria-label={`${t.reader.doubts(doubts.count)}: ${t.reader.nextDoubt}`}
              onClick={() => doubts.step(1)}
            >
              <Text span inherit visibleFrom="xs">{t.reader.doubts(doubts.count)}</Text>
              <Text span inherit hiddenFrom="xs">{number(doubts.count)}</Text>
            </Button>
          </Button.Group>
        )}
        {children}
        <ActionIcon variant="default" size={36} aria-label={t.reader.chunks} title={t.reader.chunks} onClick={jobs.open}>
          <IconLayoutGrid size={18} />
        </ActionIcon>
        {jobsShown && <Jobs one={one} onClose={jobs.close} onPick={(seconds) => (jobs.close(), onShow(seconds))} />}
        {readable && (
          <ActionIcon variant="subtle" color="gray" size={36} visibleFrom="sm" aria-label={t.reader.keysTitle} onClick={onKeys}>
            <IconKeyboard size={20} />
          </ActionIcon>
        )}
      </Group>
    </header>
  );
}

/** The reader follows the sound until somebody scrolls, and again from "back to now". */
export function useFollowing(player: Player | null, reader: React.RefObject<ReaderHandle | null>, rows: readonly Row[]) {
  const follow = useRef(true);
  const following = useRef(0);
  const [away, setAway] = useState(false);
  const setFollow = useCallback((value: boolean) => {
    follow.current = value;
    setAway(!value);
  }, []);
  useTime(
    player?.audio,
    useCallback(
      (seconds) => {
        following.current = seconds;
        reader.current?.speak(seconds, follow.current && !player?.audio.paused);
      },
      [reader, player?.audio],
    ),
  );
  const playing = player?.playing ?? false;
  useEffect(() => {
    if (!playing) return;
    const yieldTo = () => setFollow(false);
    const keys = (event: KeyboardEvent) => /^(Page|Home$|End$|ArrowUp|ArrowDown)/.test(event.key) && setFollow(false);
    window.addEventListener("wheel", yieldTo, { passive: true });
    window.addEventListener("touchmove", yieldTo, { passive: true });
    window.addEventListener("keydown", keys);
    return () => {
      window.removeEventListener("wheel", yieldTo);
      window.removeEventListener("touchmove", yieldTo);
      window.removeEventListener("keydown", keys);
    };
  }, [playing, setFollow]);
  const seek = useCallback(
    (seconds: number) => {
      following.current = Math.max(0, seconds);
      setFollow(true);
      if (player) player.seek(seconds);
      else reader.current?.speak(seconds, false);
    },
    [player, reader, setFollow],
  );
  const now = useCallback(() => {
    setFollow(true);
    reader.current?.show(rowAt(rows, following.current));
  }, [reader, rows, setFollow]);
  return { following, away: away && playing, seek, now };
}

function useDoubts(
  rows: readonly Row[],
  reader: React.RefObject<ReaderHandle | null>,
  seek: (seconds: number) => void,
  open: ((active: Active | null) => void) | null,
): Doubts {
  const { t } = useWords();
  const doubts = useMemo(() => doubtsOf(rows), [rows]);
  const last = useRef<number | null>(null); // by its time: what is corrected is no doubt any more
  return useMemo(
    () => ({
      count: doubts.length,
      step(by, edit) {
        const before = last.current ?? (by > 0 ? -Infinity : Infinity);
        const next = by > 0 ? doubts.find(({ start }) => start > before) : doubts.findLast(({ start }) => start < before);
        const doubt = next ?? doubts.at(by > 0 ? 0 : -1);
        if (!doubt) return;
        last.current = doubt.start;
        seek(doubt.start);
        reader.current?.show(doubt.row, doubt);
        if (edit && open && doubt.text !== null) open(placeAt(rows, doubt.start));
        const when = clock(doubt.start);
        say(doubt.text === null ? t.reader.gap(when) : t.reader.doubt(doubt.text, when));
      },
    }),
    [doubts, rows, reader, seek, open, t],
  );
}

/** For those who listen to the page instead of seeing it. */
function say(text: string): void {
  const voice = document.getElementById("said");
  if (voice) voice.textContent = text;
}

/** A link to a second: shows the row once the text is there. */
export function useLinked(rows: readonly Row[], reader: React.RefObject<ReaderHandle | null>, seek: (seconds: number) => void): void {
  const { t: seconds } = useSearch({ strict: false });
  const shown = useRef<number | null>(null);
  useEffect(() => {
    if (seconds === undefined || shown.current === seconds || !rows.length) return;
    shown.current = seconds;
    const index = rowAt(rows, seconds);
    const row = rows[index];
    const word = row?.kind === "text" ? wordAt(row.words, seconds) : undefined;
    setTimeout(() => reader.current?.show(index, word), 60); // once the rows are laid out
  }, [seconds, rows, reader]);
  useEffect(() => {
    if (seconds !== undefined) seek(seconds);
  }, [seconds, seek]);
}
