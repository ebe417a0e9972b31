// The list of transcriptions: drop files, choose how, watch them, act on them.
import { Button, Collapse, Container, Group, Loader, Paper, SegmentedControl, Stack, Text, TextInput, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useInfiniteQuery } from "@tanstack/react-query";
import { IconAdjustmentsHorizontal, IconChevronDown, IconHeadphones, IconSearch, IconUpload } from "@tabler/icons-react";
import { useRef, useState } from "react";

import { address } from "../../api/client";
import { isActive, listQuery } from "../../api/queries";
import type { TranscriptionView } from "../../api/schema";
import { Problem } from "../../shell/Failed";
import { useWords } from "../../words";
import { Drop } from "./Drop";
import { OptionsForm, toOptions, useChosen, useOffers } from "./Options";
import { Row } from "./Row";
import style from "./Transcriptions.module.css";
import { useRemoved } from "./removal";
import { uploads } from "./uploads";
import { UploadList } from "./UploadList";

const SAMPLE = "app/sample/podcast.mp3";
const FILTERS = {
  all: () => true,
  active: isActive,
  done: (one: TranscriptionView) => one.state === "done" || one.state === "incomplete",
  problem: (one: TranscriptionView) => ["failed", "cancelled", "incomplete"].includes(one.state) || Boolean(one.warning),
};
type Filter = keyof typeof FILTERS;

export function Transcriptions() {
  const { t } = useWords();
  const [chosen] = useChosen();
  const offers = useOffers();
  const [open, { toggle }] = useDisclosure(false);
  const send = (files: readonly File[]) =>
    uploads.add(files, { options: toOptions(chosen, offers), priority: chosen.priority });
  return (
    <Container size="lg" py="lg">
      <Drop onFiles={send} />
      <Stack gap="lg">
        <Group justify="space-between">
          <Title order={1}>{t.list.title}</Title>
          <Group gap="xs">
            <Button
              variant="default"
              leftSection={<IconAdjustmentsHorizontal size={18} aria-hidden />}
              rightSection={<IconChevronDown size={16} aria-hidden className={open ? style.open : ""} />}
              aria-expanded={open}
              aria-controls="options"
              onClick={toggle}
            >
              {t.list.options}
            </Button>
            <Choose onFiles={send} />
          </Group>
        </Group>
        <Collapse expanded={open} id="options">
          <Paper withBorder p="lg">
            <OptionsForm />
          </Paper>
        </Collapse>
        <UploadList />
        <List onFiles={send} />
      </Stack>
    </Container>
  );
}

function Choose({ onFiles }: { onFiles: (files: File[]) => void }) {
  const { t } = useWords();
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        accept="audio/*,video/*,.mka,.mkv,.opus,.flac,.m4b"
        onChange={(event) => {
          onFiles([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
      <Button leftSection={<IconUpload size={18} aria-hidden />} onClick={() => input.current?.click()}>
        {t.list.choose}
      </Button>
    </>
  );
}

function List({ onFiles }: { onFiles: (files: File[]) => void }) {
  const { t } = useWords();
  const [filter, setFilter] = useState<Filter>("all");
  const [name, setName] = useState("");
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(listQuery);
  const removed = useRemoved();
  if (error) return <Problem error={error} />;
  if (!data) return <Loader aria-label={t.loading} />;
  const all = data.pages.flatMap((page) => page.transcriptions).filter((one) => !removed.has(one.id));
  if (all.length === 0) return <Empty onFiles={onFiles} />;
  const wanted = name.trim().toLowerCase();
  const shown = all.filter((one) => FILTERS[filter](one) && one.name.toLowerCase().includes(wanted));
  return (
    <Stack gap="sm">
      <Group gap="sm" className={style.filters}>
        <SegmentedControl
          size="sm"
          aria-label={t.list.title}
          value={filter}
          onChange={setFilter}
          data={(Object.keys(FILTERS) as Filter[]).map((value) => ({ value, label: t.list.states[value] }))}
        />
        <TextInput
          className={style.search}
          aria-label={t.list.filter}
          placeholder={t.list.filter}
          leftSection={<IconSearch size={16} aria-hidden />}
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
      </Group>
      <ul className={style.list} aria-label={t.list.title}>
        {shown.map((one) => (
          <Row key={one.id} one={one} />
        ))}
      </ul>
      {shown.length === 0 && <Text c="dimmed">{t.list.none}</Text>}
      {hasNextPage && (
        <Button variant="default" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
          {t.list.more}
        </Button>
      )}
      <Text size="sm" c="dimmed">
        {t.list.dropHere}
      </Text>
    </Stack>
  );
}

function Empty({ onFiles }: { onFiles: (files: File[]) => void }) {
  const { t } = useWords();
  const [busy, setBusy] = useState(false);
  async function sample() {
    setBusy(true);
    try {
      const answer = await fetch(address(SAMPLE));
      onFiles([new File([await answer.blob()], "podcast.mp3", { type: "audio/mpeg" })]);
    } finally {
      setBusy(false);
    }
  }
  return (
    <Paper withBorder className={style.empty}>
      <IconUpload size={44} stroke={1.4} aria-hidden />
      <Title order={2}>{t.list.emptyTitle}</Title>
      <Text maw={560} c="dimmed">
        {t.list.emptyText}
      </Text>
      <Button variant="light" size="md" leftSection={<IconHeadphones size={20} aria-hidden />} loading={busy} onClick={() => void sample()}>
        {t.list.sample}
      </Button>
    </Paper>
  );
}
