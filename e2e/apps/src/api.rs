//! Keeps items in PostgreSQL. Like most that talk to a database, it reads address and password once, at its start.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

use crate::http::{Instance, Listen, answer, parameter, serve};

/// The database, by the variables that all of PostgreSQL's clients know.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connection {
    /// Its host.
    #[arg(long, env = "PGHOST")]
    host: String,
    /// Its port.
    #[arg(long, env = "PGPORT", default_value_t = 5432)]
    port: u16,
    /// Its name.
    #[arg(long, env = "PGDATABASE", default_value = "postgres")]
    database: String,
    /// The role.
    #[arg(long, env = "PGUSER", default_value = "postgres")]
    user: String,
    /// The role's password.
    #[arg(long, env = "PGPASSWORD", hide_env_values = true)]
    password: String,
}

/// Where the items are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    connection: Connection,
}

impl Connection {
    async fn open(&self) -> anyhow::Result<Client> {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user)
            .password(&self.password);
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await.context("cannot connect to the database")?;
        // It ends when the client is dropped or the server goes, which the client's next query tells.
        tokio::spawn(connection);
        Ok(client)
    }
}

struct Api {
    instance: Instance,
    connection: Connection,
    /// Kept open, and opened again when it broke: with the password that was read at the start.
    client: Mutex<Arc<Client>>,
}

impl Api {
    async fn client(&self) -> anyhow::Result<Arc<Client>> {
        let mut client = self.client.lock().await;
        if client.is_closed() {
            *client = Arc::new(self.connection.open().await?);
        }
        Ok(client.clone())
    }

    async fn items(&self) -> anyhow::Result<Value> {
        let rows = self.client().await?.query("SELECT name FROM items ORDER BY name", &[]).await;
        let names: Vec<String> = rows.context("cannot read items")?.iter().map(|row| row.get(0)).collect();
        Ok(json!(names))
    }

    async fn slow(&self, milliseconds: u32) -> anyhow::Result<Value> {
        let seconds = f64::from(milliseconds) / 1000.0;
        let done = self.client().await?.execute("SELECT pg_sleep($1)", &[&seconds]).await;
        done.context("the query failed").map(|_| json!(milliseconds))
    }

    fn respond(&self, name: &str, outcome: anyhow::Result<Value>) -> Response {
        let mut body = self.instance.to_json();
        match outcome {
            Ok(value) => {
                body[name] = value;
                answer(StatusCode::OK, &body).into_response()
            }
            Err(error) => {
                println!("{error:#}");
                body["error"] = json!(format!("{error:#}"));
                answer(StatusCode::SERVICE_UNAVAILABLE, &body).into_response()
            }
        }
    }
}

/// Serves `/items`, `/slow?ms=` and, for the probe, `/ready`. Ends at once if it cannot reach the database.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let instance = Instance::new();
    let client = Mutex::new(Arc::new(args.connection.open().await?));
    let api = Arc::new(Api { instance, connection: args.connection, client });
    let items = async |State(api): State<Arc<Api>>| api.respond("items", api.items().await);
    let router = Router::new()
        .route("/items", get(items))
        .route("/ready", get(items))
        .route("/slow", get(slow))
        .with_state(api);
    serve(&args.listen, router).await
}

/// A query that takes as long as is asked for.
async fn slow(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Response {
    let milliseconds =
        parameter(query.as_deref(), "ms").and_then(|ms| u32::try_from(ms).ok()).unwrap_or(1000);
    api.respond("slow", api.slow(milliseconds).await)
}

/// Makes the table, as often as one likes, once the database answers.
pub(crate) async fn migrate(connection: &Connection) -> anyhow::Result<()> {
    let client = connection.open().await?;
    let script = "CREATE TABLE IF NOT EXISTS items (name text PRIMARY KEY);
        INSERT INTO items VALUES ('apple'), ('pear') ON CONFLICT DO NOTHING;";
    client.batch_execute(script).await.context("the migration failed")?;
    println!("the table is there");
    Ok(())
}
