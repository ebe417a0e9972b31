// The page of transcriptions: drop files, choose how, watch them, act on them.
import { Anchor, Button, Collapse, Container, Group, Paper, Stack, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconHeadphones, IconUpload } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useRef, useState } from "react";

import { address } from "../../api/client";
import { sessionQuery } from "../../api/queries";
import { useWords } from "../../words";
import { Drop } from "./Drop";
import { FromLink } from "./FromLink";
import { List } from "./List";
import { OptionsButton, OptionsForm, useSending } from "./Options";
import style from "./Transcriptions.module.css";
import { uploads } from "./uploads";
import { UploadList } from "./UploadList";

const SAMPLE = "app/sample/podcast.mp3";

export function Transcriptions() {
  const { t } = useWords();
  const choice = useSending();
  const [open, { toggle }] = useDisclosure(false);
  const send = (files: readonly File[]) => uploads.add(files, choice());
  return (
    <Container size="lg" py="lg">
      <Drop onFiles={send} />
      <Stack gap="lg">
        <Group justify="space-between">
          <Title order={1}>{t.nav.transcriptions}</Title>
          <Group gap="xs" className={style.ways}>
            <OptionsButton open={open} toggle={toggle} />
            <Choose onFiles={send} />
          </Group>
        </Group>
        <Collapse expanded={open} id="options">
          <Paper withBorder p="lg">
            <OptionsForm />
            <Text size="sm" c="dimmed" mt="md">{t.options.remembered}</Text>
          </Paper>
        </Collapse>
        <FromLink choice={choice} />
        <UploadList />
        <List empty={<Empty onFiles={send} />} />
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

function Empty({ onFiles }: { onFiles: (files: File[]) => void }) {
  const { t } = useWords();
  const { data: session } = useQuery(sessionQuery);
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
      <Text maw={560} c="dimmed">{t.list.emptyText}</Text>
      {session?.offers?.length === 0 && (
        <Text fw={550}>
          {t.list.noWorker}{" "}
          {session.scope === "admin" && <Anchor component={Link} to="/farm">{t.join.add}</Anchor>}
        </Text>
      )}
      <Button variant="light" size="md" leftSection={<IconHeadphones size={20} aria-hidden />} loading={busy} onClick={() => void sample()}>
        {t.list.sample}
      </Button>
    </Paper>
  );
}
