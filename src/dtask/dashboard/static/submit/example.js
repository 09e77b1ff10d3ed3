// A job file to begin with: a graph with an array, a retry and a timeout in it.

export const EXAMPLE = `# prepare -> tile (16 elements; some fail once and are retried) -> join
name: render
queue: default
priority: 0

tasks:
  prepare:
    command: [sh, -c, 'echo prepared; sleep 1']

  tile:
    needs: [prepare]
    array: 16
    command: [sh, -c, 'echo "tile {}"; sleep 1; test $(( (DTASK_INDEX + DTASK_NUMBER) % 5 )) != 0']
    retry: {max: 3, backoff_s: 1}
    timeout_s: 60

  join:
    needs: [tile]
    command: [sh, -c, 'echo joined']
`;
