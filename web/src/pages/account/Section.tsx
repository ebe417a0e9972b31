// A part of the account page, and a secret that is shown once.
import { Alert, Button, Card, Group, Stack, Text, Title } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { IconCopy } from "@tabler/icons-react";
import type { ReactNode } from "react";

import { copy } from "../../copy";
import { useWords } from "../../words";
import style from "./Account.module.css";

export const failed = (error: Error) => notifications.show({ color: "red", message: error.message });

export function Section({ title, hint, children }: { title: string; hint?: string; children: ReactNode }) {
  return (
    <Card withBorder padding="lg" component="section" aria-label={title}>
      <Stack gap="sm">
        <Title order={2}>{title}</Title>
        {hint && (
          <Text size="sm" c="dimmed">
            {hint}
          </Text>
        )}
        {children}
      </Stack>
    </Card>
  );
}

export function Shown({ label, secret }: { label: string; secret: string }) {
  const { t } = useWords();
  return (
    <Alert title={label} role="status">
      <Group wrap="nowrap">
        <code className={style.secret}>{secret}</code>
        <Button size="compact-sm" leftSection={<IconCopy size={15} aria-hidden />} onClick={() => void copy(secret, t)}>
          {t.account.copyLink}
        </Button>
      </Group>
    </Alert>
  );
}
