// What is shown instead of a page that cannot be shown.
import { Alert, Anchor, Button, Container, Stack } from "@mantine/core";
import { type ErrorComponentProps, Link, useRouter } from "@tanstack/react-router";

import { useWords } from "../words";

export function Failed({ error }: ErrorComponentProps) {
  const { t } = useWords();
  const router = useRouter();
  return (
    <Container size="sm" py="xl">
      <Stack>
        <Problem error={error} />
        <Button onClick={() => void router.invalidate()}>{t.tryAgain}</Button>
      </Stack>
    </Container>
  );
}

export function Problem({ error }: { error: unknown }) {
  const { t } = useWords();
  return (
    <Alert color="red" title={t.error} role="alert">
      {error instanceof Error ? error.message : String(error)}
    </Alert>
  );
}

export function Missing() {
  const { t } = useWords();
  return (
    <Container size="sm" py="xl">
      <Stack>
        <h1>{t.notFound}</h1>
        <Anchor component={Link} to="/">
          {t.reader.backToList}
        </Anchor>
      </Stack>
    </Container>
  );
}
