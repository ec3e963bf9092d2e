-- commit and commit_one take one more argument, so that their former versions would stay beside the new ones.
DROP FUNCTION IF EXISTS
    {commit}(uuid, text[], bytea[], text[], bytea[], bigint[], float8[], bigint[], boolean[]);
DROP FUNCTION IF EXISTS {commit_one}(uuid, text, bytea, bytea, bigint, float8, bigint, boolean);
