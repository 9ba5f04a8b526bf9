//! What users and controllers do to configuration and workloads.

use std::time::Duration;

use http::Request;
use pod_reloader_stub_api::Random;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Play;
use crate::histories::shop::{NAMESPACES, OBJECTS, WORKLOADS, Wish, config, wish_of};

impl Play {
    pub(super) fn content(&self, namespace: usize, object: usize) -> Option<Value> {
        let (_, plural, name) = OBJECTS[object];
        self.stub.get(plural, NAMESPACES[namespace], name).map(|object| object["data"].clone())
    }

    pub(super) fn put(&mut self, namespace: usize, object: usize) {
        self.serial += 1;
        self.stub.put(config(NAMESPACES[namespace], object, &self.serial.to_string()));
    }

    /// Another content, and then what was before: an object, or none.
    pub(super) async fn change_back(&mut self, namespace: usize, object: usize, gap: Duration) {
        let (_, plural, name) = OBJECTS[object];
        let before = self.content(namespace, object);
        self.put(namespace, object);
        sleep(gap).await;
        match before {
            Some(data) => {
                self.stub.edit(plural, NAMESPACES[namespace], name, |object| object["data"] = data);
            }
            None => drop(self.stub.delete(plural, NAMESPACES[namespace], name)),
        }
    }

    pub(super) fn rewrite(&mut self, namespace: usize, object: usize) {
        let (_, plural, name) = OBJECTS[object];
        if self.content(namespace, object).is_some() {
            self.serial += 1;
            let serial = self.serial.to_string();
            self.stub.edit(plural, NAMESPACES[namespace], name, |object| {
                object["metadata"]["annotations"]["touched"] = json!(serial);
            });
        }
    }

    pub(super) async fn create(&mut self, namespace: usize, workload: usize) {
        let wish = Wish::random(&mut self.random);
        let name = WORKLOADS[workload];
        let mut object = wish.patch();
        object["apiVersion"] = json!("apps/v1");
        object["kind"] = json!("Deployment");
        object["metadata"]["name"] = json!(name);
        object["spec"]["selector"] = json!({"matchLabels": {"app": name}});
        object["spec"]["template"]["metadata"] = json!({"labels": {"app": name}});
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", NAMESPACES[namespace]);
        // Namespaces are made by what the test puts there.
        if self.stub.get("namespaces", "", NAMESPACES[namespace]).is_none() {
            self.put(namespace, 0);
        }
        self.send(Request::post(format!("{path}?fieldManager=kubectl")), &object).await;
        self.wishes[namespace][workload] = Some(wish);
    }

    pub(super) async fn create_or_delete(&mut self, namespace: usize, workload: usize) {
        if self.wishes[namespace][workload].take().is_some() {
            self.stub.delete("deployments", NAMESPACES[namespace], WORKLOADS[workload]);
        } else {
            self.create(namespace, workload).await;
        }
    }

    pub(super) async fn edit(
        &mut self,
        namespace: usize,
        workload: usize,
        what: &str,
        change: impl FnOnce(&mut Wish, &mut Random),
    ) {
        let Some(mut wish) = self.wishes[namespace][workload].clone() else { return };
        change(&mut wish, &mut self.random);
        self.note(format!("{what} of {}/{}", NAMESPACES[namespace], WORKLOADS[workload]));
        let request = Request::patch(path(namespace, workload) + "?fieldManager=kubectl")
            .header("content-type", "application/merge-patch+json");
        self.send(request, &wish.patch()).await;
        self.wishes[namespace][workload] = Some(wish);
    }

    pub(super) async fn edit_template(&mut self, namespace: usize, workload: usize) {
        let new_uses = self.random.chance(0.5);
        self.edit(namespace, workload, "template", |wish, random| {
            wish.image += 1;
            if new_uses {
                wish.use_anew(random);
            }
        })
        .await;
    }

    pub(super) async fn opt(&mut self, namespace: usize, workload: usize) {
        let by_label = self.random.chance(0.5);
        self.edit(namespace, workload, "opting in or out", |wish, _| {
            if by_label {
                wish.is_ignored = !wish.is_ignored;
            } else {
                wish.is_opted_in = !wish.is_opted_in;
            }
        })
        .await;
    }

    /// `kubectl rollout undo`, to any earlier revision.
    pub(super) async fn undo(&mut self, namespace: usize, workload: usize) {
        let Some(object) = self.stub.get("deployments", NAMESPACES[namespace], WORKLOADS[workload]) else {
            return;
        };
        let uid = &object["metadata"]["uid"];
        let earlier = self.stub.writes().into_iter();
        let earlier: Vec<_> = earlier.filter(|write| write.object["metadata"]["uid"] == *uid).collect();
        let chosen = self.any(earlier.len());
        let earlier = &earlier[chosen].object;
        let mut object = (*object).clone();
        object["spec"]["template"] = earlier["spec"]["template"].clone();
        object["metadata"]["annotations"] = earlier["metadata"]["annotations"].clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        self.note(format!("undo of {}/{}", NAMESPACES[namespace], WORKLOADS[workload]));
        self.send(Request::put(path(namespace, workload) + "?fieldManager=kubectl"), &object).await;
        let now = wish_of(&self.stub.get("deployments", NAMESPACES[namespace], WORKLOADS[workload]).unwrap());
        let image = self.wishes[namespace][workload].as_ref().map_or(0, |wish| wish.image) + 1;
        // With empty lists there would be nothing to opt in with.
        let listed = if now.is_opted_in { now.listed } else { [true; OBJECTS.len()] };
        self.wishes[namespace][workload] = Some(Wish { listed, image, ..now });
    }

    async fn send(&self, request: http::request::Builder, body: &Value) {
        let request = request.body(body.to_string().into_bytes()).unwrap();
        // On a connection of its own, which nothing has befallen yet.
        let answer = self.stub.client_of("user:ann").request::<Value>(request).await;
        if self.level.is_rough() && answer.is_err() {
            // Broken on its way; the owner finds out what became of it.
            return;
        }
        assert!(answer.is_ok(), "{answer:?}");
    }
}

fn path(namespace: usize, workload: usize) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments/{}", NAMESPACES[namespace], WORKLOADS[workload])
}
