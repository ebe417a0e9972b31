// The line that makes a machine a worker, for each system. Pure.
export const systems = ["unix", "windows", "checkout"] as const;
export type System = (typeof systems)[number];

const PROGRAMS: Record<System, string> = { unix: "whisper-farm", windows: "whisper-farm.exe", checkout: "./run farm" };

export function joinCommand(system: System, server: string, code: string): string {
  return `${PROGRAMS[system]} worker --server ${server} --join ${code}`;
}

/** Whether no other machine reaches this address. */
export function onlyHere(server: string): boolean {
  return /^(localhost$|127\.|\[::1\])/.test(new URL(server).hostname);
}
