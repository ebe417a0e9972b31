// The files that are being sent.
import { ActionIcon, Button, Group, Paper, Progress, Stack, Text, Title } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useSyncExternalStore } from "react";

import { bytes, useNow, useWords } from "../../words";
import { type Upload, uploads } from "./uploads";

export function UploadList() {
  const { t } = useWords();
  const list = useSyncExternalStore(uploads.subscribe, uploads.snapshot);
  if (list.length === 0) return null;
  return (
    <Paper withBorder p="md" component="section" aria-label={t.uploads.title}>
      <Stack gap="sm">
        <Title order={2}>{t.uploads.title}</Title>
        {list.map((one) => <One key={one.id} one={one} />)}
      </Stack>
    </Paper>
  );
}

function One({ one }: { one: Upload }) {
  const { t } = useWords();
  const now = useNow();
  const percent = one.file.size ? Math.floor((100 * one.sent) / one.file.size) : 0;
  const said = {
    waiting: () => t.uploads.waiting,
    sending: () => t.uploads.sending(percent),
    pausing: () => t.uploads.again(one.problem ?? "", Math.max(0, Math.round(one.againAt - now))),
    submitting: () => t.uploads.submitting,
    failed: () => `${t.uploads.failed}: ${one.problem ?? ""}`,
  }[one.state]();
  return (
    <Stack gap={4}>
      <Group justify="space-between" gap="sm">
        <Text fw={550} truncate flex="1 1 160px">
          <bdi>{one.file.name}</bdi>{" "}
          <Text span c="dimmed" size="sm">{bytes(one.file.size)}</Text>
        </Text>
        {one.state === "failed" && (
          <Group gap={4} wrap="nowrap">
            {one.mendable && <Button size="compact-sm" variant="light" onClick={() => uploads.again(one.id)}>{t.tryAgain}</Button>}
            <ActionIcon variant="subtle" color="gray" aria-label={t.uploads.dismiss} onClick={() => uploads.dismiss(one.id)}>
              <IconX size={16} />
            </ActionIcon>
          </Group>
        )}
      </Group>
      {one.state !== "failed" && <Progress value={percent} aria-label={t.uploads.progress(one.file.name)} animated={one.state === "submitting"} />}
      <Text size="sm" c={one.state === "failed" ? "var(--mantine-color-error)" : "dimmed"}>{said}</Text>
    </Stack>
  );
}
