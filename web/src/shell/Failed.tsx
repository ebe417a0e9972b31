// What is shown instead of a page that cannot be shown.
import { Alert, Anchor, Button, Container, Stack, Title } from "@mantine/core";
import { type ErrorComponentProps, Link, useRouter } from "@tanstack/react-router";
import { IconArrowLeft } from "@tabler/icons-react";

import { ApiError } from "../api/client";
import { useWords } from "../words";
import style from "./Parts.module.css";

export function Failed({ error }: ErrorComponentProps) {
  const { t } = useWords();
  const router = useRouter();
  return (
    <Container size="sm" py="xl">
      <Stack>
        <Title order={1}>{t.error}</Title>
        <Problem error={error} title={null} />
        <Button onClick={() => void router.invalidate()}>{t.tryAgain}</Button>
      </Stack>
    </Container>
  );
}

/** `title` is null where the page has one that says the same. */
export function Problem({ error, title }: { error: unknown; title?: null }) {
  const { t } = useWords();
  return (
    <Alert color="red" title={title === null ? null : t.error} role="alert">
      {error instanceof Error ? error.message : String(error)}
    </Alert>
  );
}

/** Whether an error is shown instead of the page. What is there stays while the farm does not answer. */
export function isFatal(error: unknown, known: unknown): boolean {
  return Boolean(error) && (known === undefined || (error instanceof ApiError && error.status < 500));
}

export function Missing() {
  const { t } = useWords();
  return (
    <Container component="main" size="sm" py="xl">
      <Stack>
        <Title order={1}>{t.notFound}</Title>
        <ToList />
      </Stack>
    </Container>
  );
}

export function ToList() {
  const { t } = useWords();
  return (
    <Anchor component={Link} to="/" size="sm" className={style.back}>
      <IconArrowLeft size={16} aria-hidden /> {t.reader.backToList}
    </Anchor>
  );
}
